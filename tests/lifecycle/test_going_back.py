"""Databases that a later release has moved forward: what refuses them, what does not, and what brings them back."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from ml_platform.cli.instance import open_instance
from ml_platform.kernel.settings import settings
from tests.lifecycle.earlier_release import LATER, make_later, revision
from tests.lifecycle.operations import run_documented, tried
from tests.postgres_server import running_postgres
from tests.redis_server import free_port

ASSET = dg.AssetKey("made_before")
MOVED = ("dagster", "mlflow")


@dataclass(frozen=True)
class MovedForward:
    """Databases of a later release, and a folder with a backup of before."""

    urls: Mapping[str, str]
    before: Mapping[str, str]
    folder: Path

    def revisions(self) -> dict[str, str]:
        return {name: revision(self.urls[name]) for name in MOVED}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovedForward]:
    """Databases that the documented commands made, and that know an asset."""
    folder = tmp_path_factory.mktemp("later")
    with running_postgres((*MOVED, "feast")) as urls, pytest.MonkeyPatch.context() as patch:
        for name, url in urls.items():
            patch.setenv(name.upper(), url)
        patch.setenv("ML_PLATFORM_HOME", str(folder / "home"))
        patch.setenv("ML_PLATFORM_DAGSTER_STORAGE", urls["dagster"])
        patch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))
        with open_instance(settings()) as instance:
            instance.report_runless_asset_event(dg.AssetMaterialization(ASSET))
        run_documented("Upgrade", folder)
        run_documented("Back up", folder)
        before = {name: revision(urls[name]) for name in MOVED}
        for name in MOVED:
            make_later(urls[name])
        yield MovedForward(urls, before, folder)


def test_the_migration_refuses_them_and_changes_nothing(moved: MovedForward) -> None:
    done = tried("Upgrade", moved.folder)
    assert done.returncode != 0
    assert f"Can't locate revision identified by '{LATER}'" in done.stderr, done.stderr
    assert set(moved.revisions().values()) == {LATER}


def test_mlflows_server_does_not_start_on_them(moved: MovedForward) -> None:
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--port", str(free_port())]
    done = subprocess.run(
        [*command, "--backend-store-uri", moved.urls["mlflow"], "--workers", "1"],
        cwd=moved.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode != 0
    assert f"found version {LATER}, but expected {moved.before['mlflow']}" in done.stdout + done.stderr


def test_dagster_is_not_told_so_that_one_has_to_ask_the_migration(moved: MovedForward) -> None:
    with open_instance(settings()) as instance:
        assert instance.get_latest_materialization_event(ASSET) is not None


def test_what_was_backed_up_before_brings_them_back(moved: MovedForward) -> None:
    run_documented("Back to the release before", moved.folder)
    assert moved.revisions() == moved.before
    run_documented("Upgrade", moved.folder)
    assert moved.revisions() == moved.before
    with open_instance(settings()) as instance:
        assert instance.get_latest_materialization_event(ASSET) is not None
