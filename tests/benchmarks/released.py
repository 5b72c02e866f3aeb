"""What the benchmarks of serving stand on: a small platform with a released model, its features in a Redis.

Everything is made as users make it. With `--data` the days up to the model's are those of the file, else they are
simulated. `--home` takes a copy of a home that is built already, which saves two minutes.
"""

import argparse
import datetime as dt
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_platform import declarations
from ml_platform.cli.instance import open_instance
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.features.store import EventDays, entity_rows_sql
from ml_platform.kernel.partitions import complete_at
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.contract import Contract, read_contract
from ml_platform.serving.store import OnlineFeatures
from ml_platform.sources.spec import EVENT_TIME
from tests.benchmarks.measure import arguments
from tests.redis_server import running_redis
from tests.support import LAST_DAY, build_platform, copied_home, land, made, of_fraud, release_landed

MODEL = "fraud"
_ASKED_ABOUT = 500


@dataclass(frozen=True)
class Released:
    """A built home with a champion, and the Redis that its features are in."""

    settings: Settings
    redis_port: int

    @cached_property
    def version(self) -> registry.Registered:
        found = registry.champion(self.settings, MODEL)
        assert found is not None, "the platform was built without a release"
        return found

    @cached_property
    def contract(self) -> Contract:
        document = registry.load_document(self.settings, self.version, "contract.json")
        return read_contract(document, of=f"{MODEL} version {self.version.version}")

    @property
    def at(self) -> dt.datetime:
        """When requests are answered: an hour after the newest snapshot."""
        return complete_at(LAST_DAY) + dt.timedelta(hours=1)

    @cached_property
    def instances(self) -> Sequence[Mapping[str, Any]]:
        """Events of the last day as they are asked about: id, keys and request fields."""
        catalog = declarations.load()
        service = catalog.get(FeatureServiceSpec, self.contract.feature_service, wanted_by="a benchmark")
        rows = entity_rows_sql(service, catalog, Lake(self.settings.lake_uri), EventDays(LAST_DAY, LAST_DAY))
        asked = (self.contract.event.name, *self.contract.keys, *self.contract.request)
        columns = ", ".join(f'"{name}"' for name in asked)
        with connect(self.settings) as connection:
            found = connection.sql(
                f"SELECT {columns} FROM ({rows}) ORDER BY {EVENT_TIME} LIMIT {_ASKED_ABOUT}"
            )
            return found.to_arrow_table().to_pylist()


def released_arguments(about: str | None) -> argparse.ArgumentParser:
    """A parser with what the benchmarks of serving understand."""
    parser = arguments(about, data_required=False)
    parser.add_argument("--home", type=Path, help="a built home to copy, instead of building one")
    return parser


@contextmanager
def released(options: argparse.Namespace) -> Iterator[Released]:
    """A platform and a Redis until the end of the block; this process's settings are theirs."""
    with tempfile.TemporaryDirectory(prefix="serving-") as folder, running_redis() as redis:
        home = Path(folder) / "home"
        if options.home:
            home = copied_home(options.home.resolve())
        try:
            os.environ["ML_PLATFORM_HOME"] = str(home)
            os.environ["ML_PLATFORM_ONLINE_STORE"] = redis.url
            here = settings().prepare()
            _build(here, options)
            platform = Released(here, redis.port)
            _require_online(platform)
            yield platform
        finally:
            shutil.rmtree(home, ignore_errors=True)


def _build(here: Settings, options: argparse.Namespace) -> None:
    if options.home:
        _bring_online(here)
    elif options.data:
        land(here, options.data)
        release_landed(here)
    else:
        build_platform(here)


def _bring_online(here: Settings) -> None:
    """Publish the newest snapshots again, to a store that does not have them."""
    with open_instance(here) as instance:
        for view in of_fraud(FeatureViewSpec):
            made(instance, f"online/{view.name}", LAST_DAY)


def _require_online(platform: Released) -> None:
    """End where the events that are asked about have no features online: what is missing is answered faster."""
    read = OnlineFeatures(platform.settings, platform.contract).read(platform.instances)
    missing = [
        view.name for view, rows in zip(platform.contract.views, read, strict=True) if None in rows.times
    ]
    if missing:
        sys.exit(
            f"features of every event of {LAST_DAY} are required online; some are missing in {', '.join(missing)}. "
            f"Give --home a home whose newest day is {LAST_DAY}, or none"
        )
