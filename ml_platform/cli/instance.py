"""The embedded Dagster instance below ML_PLATFORM_HOME, and runs of assets on it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from ml_platform.gates.failures import words_of
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings

_OURS = "# The Dagster instance of an ml-platform home."
_CONTENTS = (
    "check",
    "ci",
    "completion.json",
    "dagster",
    "deliveries",
    "demo.json",
    "demo-progress.json",
    "feast",
    "lake",
    "locks",
    "mlflow",
    "spill",
)
_INSTANCE_CONFIG = f"""\
{_OURS} Written once; yours to change.
telemetry:
  enabled: false
nux:
  enabled: false
"""
_IN_POSTGRES = """\
storage:
  custom:
    module: ml_platform.gates.run_storage
    class: PostgresStorage
    config:
      postgres_url:
        env: ML_PLATFORM_DAGSTER_STORAGE
"""
_QUIET_RUN = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def prepare_home(settings: Settings) -> Path:
    """Make the home's folders and Dagster's instance file, and point this process at them."""
    settings.prepare()
    config = settings.dagster_home / "dagster.yaml"
    if not config.exists():
        config.write_text(_INSTANCE_CONFIG + (_IN_POSTGRES if settings.dagster_storage is not None else ""))
    elif settings.dagster_storage is not None and "\nstorage:" not in f"\n{config.read_text()}":
        raise InputError(
            f"ML_PLATFORM_DAGSTER_STORAGE: a home whose instance has its storage there is required; {config} was "
            f"written for SQLite. Nothing was read; add its `storage:`, or set ML_PLATFORM_HOME to a new folder"
        )
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    return settings.dagster_home


def remove_home(settings: Settings) -> None:
    """Remove what the platform keeps below its home; InputError for a folder that it did not make."""
    if not settings.root.exists():
        return
    if not (settings.dagster_home / "dagster.yaml").exists() or _OURS not in _marker(settings):
        raise InputError(
            f"{settings.root}: only a home that this platform made can be removed, and this one does not say so in "
            f"dagster/dagster.yaml. Nothing was removed; set ML_PLATFORM_HOME to another folder"
        )
    for name in _CONTENTS:
        path = settings.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _marker(settings: Settings) -> str:
    return (settings.dagster_home / "dagster.yaml").read_text()


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of this home."""
    prepare_home(settings)
    return dg.DagsterInstance.get()


@dataclass(frozen=True)
class RunReport:
    """How one run of assets ended; `error` is what its failed step said."""

    success: bool
    run_id: str
    materializations: tuple[dg.AssetMaterialization, ...]
    error: str = ""

    def metadata(self, asset: str) -> dict[str, Any]:
        """Metadata of the newest materialization of an asset in this run, as plain values."""
        found = [m for m in self.materializations if m.asset_key.to_user_string() == asset]
        return {name: value.value for name, value in found[-1].metadata.items()} if found else {}


@dataclass(frozen=True)
class Runner:
    """Runs assets through Dagster's own machinery, in this process."""

    instance: dg.DagsterInstance
    job: dg.JobDefinition

    @classmethod
    def of(cls, settings: Settings) -> "Runner":
        definitions = settings.declared_in.definitions()
        instance = open_instance(settings)
        return cls(instance, definitions.resolve_implicit_global_asset_job_def())

    def run(self, assets: Sequence[str], first: str | None = None, last: str | None = None) -> RunReport:
        """Materialize assets: unpartitioned, for one partition, or for a range in one run."""
        tags = {}
        if last is not None and last != first:
            tags = {
                "dagster/asset_partition_range_start": str(first),
                "dagster/asset_partition_range_end": last,
            }
        result = self.job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets],
            partition_key=first if not tags else None,
            tags=tags,
            run_config=_QUIET_RUN,
            raise_on_error=False,
        )
        made = [event.materialization for event in result.all_events if event.is_step_materialization]
        return RunReport(result.success, result.run_id, tuple(made), _first_error(result))


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    """What the first failed step said; empty when none failed."""
    failed = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    return next(map(words_of, failed), "")
