"""A small world on disk that processes of their own materialize, and what its tables and ledgers say of it.

Processes come from a server that has imported everything once: they begin to work at once, and can be killed.
"""

import datetime as dt
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.cli.instance import Runner, open_instance
from ml_platform.cli.throw_away import no_waiting_for_the_disk
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.gates import publishing
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.kernel.settings import Settings
from ml_platform.lake import ledger
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import Publication, published
from ml_platform.lake.tables import Lake
from ml_platform.sources.feed import write_delivery
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from tests.support import compiled

SOURCE, VIEW = "sources/payments", "features/spending"
DAYS = tuple(f"2018-06-0{number}" for number in range(1, 7))
RANGES = ((DAYS[0], DAYS[2]), (DAYS[3], DAYS[5]))
GENERATIONS = (0, 1)
"""The view as it is declared, and with another aggregate under the same name: every row has another value."""

PATIENCE = 120.0
"""Seconds that a busy machine may take for what is done in one."""

Range = tuple[str, str]
STORAGES = ("event_log", "runs", "schedules", "local_compute_log_manager", "root")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    # What a process would import only when it gets there.
    [
        __name__,
        *(f"ml_platform.{stage}.component" for stage in ("sources", "features")),
        *("dagster._daemon", "pandas", *(f"dagster._core.storage.{name}" for name in STORAGES)),
    ]
)


def payments() -> SourceSpec:
    columns = {
        "id": {"type": "int64"},
        "event_timestamp": {"type": "timestamp"},
        "customer_id": {"type": "int64"},
        "amount": {"type": "double"},
    }
    return SourceSpec.model_validate(
        {"name": "payments", "event_id": "id", "columns": columns, "start": DAYS[0], "end": DAYS[-1]}
    )


def spending(generation: int) -> FeatureViewSpec:
    aggregation = {
        "column": "amount",
        "function": ("mean", "sum")[generation],
        "windows": ["1d", "3d"],
        "named": "spent",
    }
    return FeatureViewSpec.model_validate(
        {
            "name": "spending",
            "entity": "customer",
            "source": "payments",
            "aggregations": [aggregation],
            "online": False,
            "ttl": "3d",
            "expectations": [{"column": "customer_id", "unique": True}],
        }
    )


@dataclass(frozen=True)
class World:
    """One home with a landed and published source; its view is made by processes."""

    settings: Settings

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_uri)

    def begin(self) -> "World":
        """Land and publish the source's days."""
        assert started(deliver, self.settings).end() == 0
        return self

    def process(
        self, generation: int, *ranges: Range, target: Callable[..., None] | None = None
    ) -> "Process":
        """A process that makes ranges of days of the view, one after the other."""
        return started(target or make_in_process, self.settings, generation, ranges)

    def published(self) -> dict[str, Publication]:
        return published(self.lake, VIEW)

    def days(self, version: int | None = None) -> dict[str, pa.Table]:
        """Rows of the view's table by day, in the order of the key."""
        if self.lake.table(VIEW).version() is None:
            return {}
        with connect(self.settings) as connection:
            scan = self.lake.table(VIEW).scan(version=version)
            rows = connection.sql(f"SELECT * FROM ({scan}) ORDER BY customer_id").to_arrow_table()
        dates = rows.column(PARTITION_COLUMN)
        found = sorted(pc.unique(dates).to_pylist())
        return {str(date): rows.filter(pc.equal(dates, pa.scalar(date))) for date in found}

    def hashes(self, version: int | None = None) -> dict[str, str]:
        """Content hash of the rows of each day that the view's table has."""
        return {
            day: content_hash(rows.drop_columns([PARTITION_COLUMN]))
            for day, rows in self.days(version).items()
        }

    def recorded(self) -> list[tuple[str, int, str]]:
        """Day, table version and content hash of what the ledger has of the view, by version and day."""
        entries = [e for e in ledger._PUBLICATIONS.entries(self.lake) if e["asset"] == VIEW]
        return sorted((e["partition"], e["table_version"], e["content_hash"]) for e in entries)

    def told(self) -> list[tuple[str, int, str]]:
        """The same of what the commits of the view's table say."""
        commits = self.lake.table(VIEW).commits_after(-1)
        told = [(entry, c["version"]) for c in commits for entry in c.get("publications", [])]
        return sorted((entry["partition"], version, entry["content_hash"]) for entry, version in told)


@dataclass(frozen=True)
class Process:
    """A process at work, and the connection on which it says how far it has come."""

    itself: ForkServerProcess
    connection: Connection

    def wait_for(self, *said: str) -> None:
        """Until it has said these words, in this order."""
        for word in said:
            assert self.connection.poll(PATIENCE), f"{word} was not heard"
            assert self.connection.recv() == word

    def end(self, *, after: float = PATIENCE) -> int | None:
        """Kill it if it has not ended by itself after some seconds; its exit code."""
        self.itself.join(after)
        self.itself.kill()
        self.itself.join()
        return self.itself.exitcode


def started(target: Callable[..., None], *arguments: Any) -> Process:
    """A process that calls a function with these arguments and its end of the connection."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*arguments, there))
    process.start()
    there.close()
    return Process(process, here)


def agreed(world: World) -> dict[str, str]:
    """Content of each day, where table, commits, publications and ledger say the same of it."""
    publications, hashes = world.published(), world.hashes()
    assert {day: entry.content_hash for day, entry in publications.items()} == hashes
    rows = {day: part.num_rows for day, part in world.days().items()}
    assert {day: entry.rows for day, entry in publications.items()} == rows
    then = {version: world.hashes(version) for version in {p.table_version for p in publications.values()}}
    assert {day: then[entry.table_version][day] for day, entry in publications.items()} == hashes
    assert set(world.recorded()) <= set(world.told())
    return hashes


@dataclass(frozen=True)
class Undisturbed:
    """Content of each day by generation where nobody else works or kills, and what takes how many seconds."""

    contents: Mapping[int, Mapping[str, str]]
    whole: float
    publishing: float


def undisturbed_world(settings: Settings) -> Undisturbed:
    """Make both generations in a home of their own, one after the other."""
    world, contents, heard = World(settings).begin(), {}, []
    for generation in GENERATIONS:
        process = world.process(generation, *RANGES)
        for word in ("begun", "publishing", "published"):
            process.wait_for(word)
            heard.append(time.monotonic())
        assert process.end() == 0
        heard.append(time.monotonic())
        contents[generation] = agreed(world)
    begun, publishing, published, ended = heard[-4:]
    return Undisturbed(contents, ended - begun, published - publishing)


def deliver(settings: Settings, _: Connection) -> None:
    """Land and publish the days of the source."""
    ingest(settings, payments(), write_delivery(_delivered(), settings.root / "payments.parquet"))
    make(settings, SOURCE, 0, [(DAYS[0], DAYS[-1])])


def make(settings: Settings, key: str, generation: int, ranges: Sequence[Range]) -> None:
    """Materialize ranges of days of an asset, each in one run."""
    specs = (payments(), spending(generation))
    catalog = Catalog({(type(spec), spec.name): spec for spec in specs})
    environment = dg.ResourceDefinition.hardcoded_resource(settings)
    defs = dg.Definitions(assets=compiled(catalog), resources={"environment": environment})
    with no_waiting_for_the_disk(), open_instance(settings) as instance:
        runner = Runner(instance, defs.resolve_implicit_global_asset_job_def())
        for first, last in ranges:
            report = runner.run([key], first, last)
            assert report.success, report.error


def make_in_process(
    settings: Settings,
    generation: int,
    ranges: Sequence[Range],
    connection: Connection,
    *,
    wait: bool = False,
) -> None:
    """What a process does: materialize, and tell when it begins, publishes (if told to wait: then), has published."""

    def publish_aloud(*arguments: Any) -> list[Publication]:
        connection.send("publishing")
        if wait:
            connection.recv()
        made = ledger.publish_partitions(*arguments)
        connection.send("published")
        return made

    publishing.publish_partitions = publish_aloud
    connection.send("begun")
    make(settings, VIEW, generation, ranges)


def die(*_: Any, **__: Any) -> None:
    """What a process is made to do where it shall be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def _delivered() -> pa.Table:
    """Four payments a day, of three customers."""
    times = [
        dt.datetime.fromisoformat(day) + dt.timedelta(hours=3 * number) for day in DAYS for number in range(4)
    ]
    count = len(times)
    return pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "event_timestamp": pa.array(times, pa.timestamp("us")),
            "customer_id": pa.array([number % 3 for number in range(count)], pa.int64()),
            "amount": pa.array([1.5 * number + 1 for number in range(count)], pa.float64()),
        }
    )
