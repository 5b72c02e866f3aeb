"""Every way to run a model after a failed check: stock Dagster lets it through, the platform does not.

The UI's ways are the GraphQL requests that it sends, carried out by Dagster's own webserver code, run launcher and
backfill daemon.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext

from ml_platform.cli.story import scaled
from ml_platform.cli.throw_away import no_waiting_for_the_disk
from ml_platform.kernel.settings import PROJECT_ROOT
from ml_platform.notifications.events import errors
from tests.built import Platform, day_of_transactions
from tests.dagster_ui import DagsterUi
from tests.lifecycle import locations
from tests.lifecycle.locations import BAD, GOOD

FINE = "2018-06-02"  # what its model reads has passed; that of the bad day and of the one after it has not
NEXT_DAY = "2018-06-27"  # the day after those of the built platform
INSTANCE = """\
telemetry:
  enabled: false
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
"""


@dataclass(frozen=True)
class Ui(DagsterUi):
    """A Dagster instance with one code location, asked as its UI asks."""

    location: str

    @cached_property
    def job(self) -> dg.JobDefinition:
        return getattr(locations, self.location)().resolve_implicit_global_asset_job_def()

    def make(self, asset: str, *partitions: str) -> None:
        """Make an asset for days, one run each, whether its check fails or not."""
        for partition in partitions:
            self.job.execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(asset.split("/"))],
                partition_key=partition,
                raise_on_error=False,
            )

    def materialize(self, *assets: str, day: str = BAD, checks: bool = True) -> str:
        """The button: one run of assets for a day, with their checks or without; what it is answered."""
        return self.launch(*assets, day=day, checks=checks)["__typename"]

    def backfill(self, asset: str) -> None:
        """The same for a range of days, as a backfill that the daemon carries out."""
        self.launch_backfill(asset, [FINE, BAD, GOOD])

    def made(self, asset: str) -> set[str]:
        return set(self.instance.get_materialized_partitions(dg.AssetKey(asset.split("/"))))

    def refused(self) -> set[str]:
        """Assets whose gate has refused a step, as the steps' failures say."""
        texts = [
            text
            for run in self.instance.get_runs()
            for text in errors(self.instance, run.run_id, refusals=True).values()
        ]
        assert all("blocking check(s) upstream have not passed" in text for text in texts)
        return {text.split(" ")[0] for text in texts}


@contextmanager
def ui_of(location: str, folder: Path) -> Iterator[Ui]:
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="tests.lifecycle.locations", attribute=location
    )
    origin = InProcessCodeLocationOrigin(target)
    folder.mkdir()
    (folder / "dagster.yaml").write_text(INSTANCE)
    with (
        no_waiting_for_the_disk(),
        dg.DagsterInstance.from_config(str(folder)) as instance,
        WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as workspace,
    ):
        yield Ui(workspace, location)


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Ui]:
    with ui_of("stock", tmp_path / "stock") as ui:
        ui.make("upstream", FINE, BAD, GOOD)
        yield ui


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Ui]:
    with ui_of("gated", tmp_path / "gated") as ui:
        yield built(ui, "gated")


@pytest.fixture
def gated_far(tmp_path: Path) -> Iterator[Ui]:
    with ui_of("gated_far", tmp_path / "gated_far") as ui:
        yield built(ui, "gated_far")


def built(ui: Ui, group: str) -> Ui:
    """The same with all that the model of the bad day reads, some of which failed."""
    for asset in ("raw", "features", "profiles"):
        ui.make(f"{group}/{asset}", "2018-06-01", FINE, BAD, GOOD)
    return ui


def test_the_materialize_button_alone(stock: Ui, gated: Ui) -> None:
    stock.materialize("downstream")
    assert BAD in stock.made("downstream")
    gated.materialize("gated/model")
    assert gated.made("gated/model") == set()
    assert gated.refused() == {"gated/model"}
    gated.materialize("gated/model", day=FINE)
    assert gated.made("gated/model") == {FINE}


def test_the_materialize_button_with_the_checks_left_out(stock: Ui, gated: Ui) -> None:
    stock.materialize("upstream", "downstream", checks=False)
    assert BAD in stock.made("downstream")
    without = gated.materialize("gated/profiles", "gated/model", day=FINE, checks=False)
    assert without == "InvalidSubsetError", "what has checks is not made without them"
    gated.materialize("gated/model", checks=False)
    assert gated.made("gated/model") == set()
    assert gated.refused() == {"gated/model"}
    gated.materialize("gated/model", day=FINE, checks=False)
    assert gated.made("gated/model") == {FINE}


def test_the_materialize_button_on_an_asset_two_steps_below(stock: Ui, gated_far: Ui) -> None:
    stock.materialize("last")
    assert BAD in stock.made("last")
    gated_far.materialize("gated_far/model")
    assert gated_far.made("gated_far/model") == set()
    assert gated_far.refused() == {"gated_far/model"}
    gated_far.materialize("gated_far/model", day=FINE)
    assert gated_far.made("gated_far/model") == {FINE}


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")  # Dagster's own
def test_a_backfill_of_a_range_of_days(stock: Ui, gated: Ui) -> None:
    stock.backfill("downstream")
    assert stock.made("downstream") == {FINE, BAD, GOOD}
    gated.backfill("gated/model")
    assert gated.made("gated/model") == {FINE}
    assert gated.refused() == {"gated/model"}


def test_dg_launch(platform: Platform, tmp_path: Path) -> None:
    project = stock_project(tmp_path)
    launch(project, project / "home", "upstream", BAD)
    launch(project, project / "home", "downstream", BAD)
    with dg.DagsterInstance.from_config(str(project / "home")) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("downstream")) == {BAD}

    platform.deliver("transactions", scaled(day_of_transactions(NEXT_DAY), "tx_amount", by=1.5))
    platform.make("sources/transactions", NEXT_DAY)
    platform.refused("drift_profiles/fraud", NEXT_DAY)
    said = launch(PROJECT_ROOT, platform.settings.dagster_home, "models/fraud", NEXT_DAY)
    assert f"models/fraud [{NEXT_DAY}] is refused" in said
    assert NEXT_DAY not in platform.materialized("models/fraud")


def stock_project(folder: Path) -> Path:
    """A dg project of stock Dagster: the asset `upstream` fails its check, `downstream` reads it."""
    package = folder / "stock_project"
    package.mkdir()
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text("from tests.lifecycle.locations import stock\n\ndefs = stock()\n")
    lines = ["[tool.dg]", 'directory_type = "project"', "[tool.dg.project]", 'root_module = "stock_project"']
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")
    return folder


def launch(project: Path, home: Path, asset: str, partition: str) -> str:
    """What `dg launch` says of one asset's partition; it may fail."""
    command = [
        str(Path(sys.executable).with_name("dg")),
        "launch",
        "--assets",
        asset,
        "--partition",
        partition,
    ]
    paths = os.pathsep.join([str(project), str(PROJECT_ROOT)])
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
