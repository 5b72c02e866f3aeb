"""A private copy of the small built platform, what tests ask of it, and runs under changed declarations."""

import datetime as dt
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ml_platform import declarations
from ml_platform.cli.instance import Runner, RunReport, open_instance
from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.defs.resources import resources
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.kernel.settings import Settings, settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.sources.feed import write_delivery
from ml_platform.sources.landing import Landed, ingest
from ml_platform.sources.spec import SourceSpec
from tests.support import LAST_DAY, SCALE, all_assets, compiled, copied_home

NEXT_DAY = (dt.date.fromisoformat(LAST_DAY) + dt.timedelta(days=1)).isoformat()
CUSTOMERS, TERMINALS = "features/customer_spending", "features/terminal_risk"


@dataclass(frozen=True)
class Platform:
    """A home with its Dagster instance, as the one process that works on it sees them."""

    settings: Settings
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_uri)

    @property
    def catalog(self) -> Catalog:
        return declarations.load()

    def run(
        self,
        key: str,
        first: str | None = None,
        last: str | None = None,
        *,
        changed: Sequence[NamedSpec] = (),
    ) -> RunReport:
        """Materialize one asset, under changed declarations if some are given."""
        return Runner(self.instance, self.job(changed)).run([key], first, last)

    def job(self, changed: Sequence[NamedSpec]) -> dg.JobDefinition:
        """The job of all assets, under changed declarations if some are given."""
        return job_under(changed, self.catalog) if changed else all_assets()

    def make(
        self,
        key: str,
        first: str | None = None,
        last: str | None = None,
        *,
        changed: Sequence[NamedSpec] = (),
    ) -> RunReport:
        """Materialize one asset where nothing may go wrong."""
        report = self.run(key, first, last, changed=changed)
        assert report.success, f"{key} {first or ''}: {report.error}"
        return report

    def refused(
        self,
        key: str,
        first: str | None = None,
        last: str | None = None,
        *,
        changed: Sequence[NamedSpec] = (),
    ) -> str:
        """Try to materialize one asset that has to be refused; what the refusal says."""
        report = self.run(key, first, last, changed=changed)
        assert not report.success, f"{key} {first or ''} had to be refused"
        return report.error

    def hashes(self, asset: str) -> dict[str, str]:
        """Content hash of every published partition."""
        return {key: entry.content_hash for key, entry in published(self.lake, asset).items()}

    def rows(self, asset: str, day: str | None = None) -> pa.Table:
        """Rows of an asset's table, of one day or of all."""
        return self.query(f"SELECT * FROM ({self.scan(asset, day)})")

    def scan(self, asset: str, day: str | None = None) -> str:
        """SQL of an asset's table."""
        return self.lake.table(asset).scan(where=[(PARTITION_COLUMN, "=", day)] if day else [])

    def query(self, sql: str) -> pa.Table:
        with connect(self.settings) as connection:
            return connection.sql(sql).to_arrow_table()

    def delivered(self) -> pa.Table:
        """The rows of the file that both sources were built from, as they were delivered."""
        files = sorted((self.settings.root / "simulated").glob("*.parquet"))
        return pa.concat_tables([pq.read_table(path) for path in files])

    def deliver(self, source: str, rows: pa.Table, *, known_at: str | None = None) -> Landed:
        """Land rows in file columns for one source."""
        spec = self.catalog.get(SourceSpec, source, wanted_by="a test")
        number = len(list(self.settings.root.glob("delivered-*.parquet")))
        path = write_delivery(rows, self.settings.root / f"delivered-{number}.parquet")
        return ingest(self.settings, spec, path, known_at=known_at)

    def relabel(self, day: str, *, frauds: int, known_at: str) -> None:
        """Deliver a day's labels again, known at a time: so many frauds more than before, or fewer."""
        rows = self.delivered()
        date = dt.date.fromisoformat(day)
        rows = rows.filter(pc.equal(pc.cast(rows.column("tx_datetime"), pa.date32()), pa.scalar(date)))
        labels = np.array(rows.column("tx_fraud").to_pylist())
        changed = np.flatnonzero(labels == (0 if frauds > 0 else 1))[: abs(frauds)]
        assert len(changed) == abs(frauds)
        labels[changed] = 1 - labels[changed]
        corrected = changed_column(rows, "tx_fraud", labels).take(pa.array(changed))
        self.deliver("fraud_labels", corrected, known_at=known_at)
        self.make("sources/fraud_labels", day)

    def materialized(self, key: str) -> set[str]:
        """Partitions that Dagster has a materialization of."""
        return set(self.instance.get_materialized_partitions(dg.AssetKey(key.split("/"))))

    def newest_metadata(self, key: str, partition: str | None = None) -> dict[str, Any]:
        """Metadata of an asset's newest materialization, of one partition if it has some."""
        wanted = dg.AssetRecordsFilter(
            dg.AssetKey(key.split("/")), asset_partitions=[partition] if partition else None
        )
        (record,) = self.instance.fetch_materializations(wanted, limit=1).records
        made = record.asset_materialization
        assert made is not None
        return {name: value.value for name, value in made.metadata.items()}


def day_of_transactions(day: str) -> pa.Table:
    """The next simulated day of the same small world, as it would be delivered."""
    date = dt.date.fromisoformat(day)
    return simulate(first_day=date, last_day=date, scale=SCALE)


def changed_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """The rows with other values in one column."""
    index = rows.schema.get_field_index(name)
    return rows.set_column(index, rows.schema.field(index), pa.array(values, rows.schema.field(index).type))


def job_under(changed: Sequence[NamedSpec], declared: Catalog | None = None) -> dg.JobDefinition:
    """The job of all assets with some declarations replaced by others of the same name."""
    declared = declared or declarations.load()
    catalog = Catalog(
        {**declared.specs, **{(type(spec), spec.name): spec for spec in changed}}, declared.origins
    )
    defs = dg.Definitions(assets=compiled(catalog), resources=resources().resources)
    return defs.resolve_implicit_global_asset_job_def()


@contextmanager
def opened_copy(built: Path) -> Iterator[Platform]:
    """A private copy of the built platform that this process works on until the end of the block."""
    copy = copied_home(built)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_PLATFORM_HOME", str(copy))
        patch.setenv("DAGSTER_HOME", str(copy / "dagster"))
        here = settings().prepare()
        with open_instance(here) as instance:
            yield Platform(here, instance)
    shutil.rmtree(copy)


@pytest.fixture
def platform(built_home: Settings, built_instance: dg.DagsterInstance) -> Platform:
    """A platform of the test's own, to do with as it likes."""
    return Platform(built_home, built_instance)


@pytest.fixture(scope="module")
def shared(built_once: Path) -> Iterator[Platform]:
    """A platform that the tests of a module only look at."""
    with opened_copy(built_once) as found:
        yield found
