"""A small source of payments, files of it, and everything that the lake holds of them."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.cli.instance import Runner, RunReport
from ml_platform.compiler import compile_asset
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake, Table
from ml_platform.sources.component import Source
from ml_platform.sources.landing import Landed, ingest
from ml_platform.sources.spec import SourceSpec

Row = Mapping[str, Any]
DAY, NEXT_DAY = "2018-04-01", "2018-04-02"
SCHEMA = pa.schema(
    [("id", pa.int64()), ("paid_at", pa.timestamp("us")), ("amount", pa.float64()), ("note", pa.string())]
)


def payments(**changed: Any) -> SourceSpec:
    """The declared source; half of a file's rows may be bad."""
    declared: dict[str, Any] = {
        "name": "payments",
        "event_id": "id",
        "columns": {
            "id": {"type": "int64"},
            "event_timestamp": {"type": "timestamp", "from": "paid_at"},
            "amount": {"type": "double", "minimum": 0},
            "note": {"type": "string", "nullable": True},
        },
        "start": "2018-04-01",
        "end": "2018-04-30",
        "max_bad_share": 0.5,
        "expectations": [{"rows_at_least": 1}, {"column": "amount", "between": [0, 1000]}],
    }
    return SourceSpec.model_validate({**declared, **changed})


def payment(
    id: int = 1, paid_at: str = "2018-04-01T10:00:00", amount: float = 5.0, note: str | None = None
) -> Row:
    return {"id": id, "paid_at": dt.datetime.fromisoformat(paid_at), "amount": amount, "note": note}


@dataclass
class Deliveries:
    """Files delivered to one source of one home, in order."""

    settings: Settings
    spec: SourceSpec = field(default_factory=payments)
    written: int = 0

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_uri)

    def file(self, content: Sequence[Row] | pa.Table | str | bytes, name: str | None = None) -> Path:
        """A new delivered file: rows or a table as Parquet, text as CSV, bytes as they are."""
        self.written += 1
        ending = "csv" if isinstance(content, str) else "parquet"
        path = self.settings.root / "inbox" / (name or f"{self.written}.{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str | bytes):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            table = (
                content
                if isinstance(content, pa.Table)
                else pa.Table.from_pylist(list(content), schema=SCHEMA)
            )
            pq.write_table(table, path)
        return path

    def land(
        self, content: Sequence[Row] | pa.Table | str | bytes, name: str | None = None, **how: Any
    ) -> Landed:
        """Deliver a file and ingest it."""
        return ingest(self.settings, self.spec, self.file(content, name), **how)

    def landed(self) -> list[dict[str, Any]]:
        """All landed rows, whichever files they came from."""
        return rows_of(self.lake.table(f"landing/{self.spec.name}"))

    def quarantined(self) -> list[dict[str, Any]]:
        return rows_of(self.lake.table(f"quarantine/{self.spec.name}"))


def rows_of(table: Table) -> list[dict[str, Any]]:
    """The rows of a lake table, in an order of their own; none when it was never written."""
    if table.version() is None:
        return []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(f"SELECT * FROM ({table.scan()}) ORDER BY ALL").to_arrow_table().to_pylist()


def everything(settings: Settings) -> dict[str, tuple[int | None, str]]:
    """Version and content of every table in the lake: equal before and after means that nothing changed."""
    root = Path(settings.lake_uri)
    names = sorted(str(log.parent.relative_to(root)) for log in root.rglob("_delta_log"))
    tables = {name: Lake(settings.lake_uri).table(name) for name in names}
    return {name: (table.version(), repr(rows_of(table))) for name, table in tables.items()}


def csv(*lines: str) -> str:
    """A CSV file of the source: its header, and lines as given."""
    return "\n".join(["id,paid_at,amount,note", *lines]) + "\n"


@dataclass
class Materialized:
    """The source's asset on a Dagster instance in memory."""

    source: Deliveries
    instance: dg.DagsterInstance
    others: tuple[SourceSpec, ...] = ()
    """Sources that are declared beside it."""

    def run(self, first: str = DAY, last: str | None = None) -> RunReport:
        """Materialize one day or, in one run, a range of them."""
        spec = self.source.spec
        catalog = Catalog({(SourceSpec, found.name): found for found in (spec, *self.others)})
        environment = dg.ResourceDefinition.hardcoded_resource(self.source.settings)
        assets = [compile_asset(plan, catalog) for plan in Source(spec).plans(catalog)]
        defs = dg.Definitions(assets=assets, resources={"environment": environment})
        return Runner(self.instance, defs.resolve_implicit_global_asset_job_def()).run(
            [spec.key], first, last
        )

    def published(self) -> dict[str, list[tuple[int, float]]]:
        """Id and amount of every published version, by day."""
        return by_day(rows_of(self.source.lake.table(self.source.spec.key)))

    def refused(self) -> dict[str, list[tuple[int, float]]]:
        return by_day(rows_of(self.source.lake.table(f"refused/{self.source.spec.key}")))


def by_day(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """Id and amount of rows by day, or hour, by id and created time."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: (row["id"], row["created_timestamp"])):
        partition = str(row.get("partition_hour") or row["partition_date"])
        found.setdefault(partition, []).append((row["id"], row["amount"]))
    return found


def accounts(report: RunReport) -> dict[str, dict[str, int]]:
    """What each materialization says of its rows, by day."""
    names = ("rows_landed", "dagster/partition_row_count", "rows_unchanged", "rows_quarantined")
    return {
        str(made.partition): {name.split("/")[-1]: int(str(made.metadata[name].value)) for name in names}
        for made in report.materializations
    }
