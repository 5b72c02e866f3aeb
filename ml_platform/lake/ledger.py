"""Append-only ledgers: who did what to which partition, and what was published when.

A ledger is a lake table that nothing ever rewrites. Wall time is recorded here and never enters a hash.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import spans
from ml_platform.lake.tables import Lake

_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Ledger:
    """One ledger: its name and the columns of an entry; `recorded_at` is added by `append`."""

    name: str
    columns: Mapping[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        fields = [pa.field(name, kind) for name, kind in self.columns.items()]
        return pa.schema([*fields, pa.field("recorded_at", _TIME)])

    def append(self, lake: Lake, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries in one commit; each must have exactly the ledger's columns."""
        for entry in entries:
            if set(entry) != set(self.columns):
                raise ValueError(f"ledger {self.name} has columns {list(self.columns)}; got {list(entry)}")
        now = dt.datetime.now(dt.UTC)
        rows = [{**entry, "recorded_at": now} for entry in entries]
        lake.table(f"ledgers/{self.name}").append(pa.Table.from_pylist(rows, schema=self.schema))

    def entries(self, lake: Lake) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        table = lake.table(f"ledgers/{self.name}").open()
        if table is None:
            return []
        rows = pa.table(table.to_pyarrow_table())
        return rows.sort_by([("recorded_at", "ascending")]).to_pylist()


@dataclass(frozen=True)
class Publication:
    """One published version of one partition of an asset, and what it was made from."""

    asset: str
    partition: str
    content_hash: str
    rows: int
    table_version: int
    declaration: str
    run_id: str


_PUBLICATIONS = Ledger(
    "publications",
    {
        "asset": pa.string(),
        "partition": pa.string(),
        "content_hash": pa.string(),
        "rows": pa.int64(),
        "table_version": pa.int64(),
        "declaration": pa.string(),
        "run_id": pa.string(),
    },
)


def record_publications(lake: Lake, publications: Sequence[Publication]) -> None:
    """Tell readers which versions are published now; the newest entry of a partition is what they get."""
    if publications:
        _PUBLICATIONS.append(lake, [asdict(publication) for publication in publications])


def published(lake: Lake, asset: str) -> dict[str, Publication]:
    """The newest publication of each partition of an asset, by partition key."""
    names = [field.name for field in fields(Publication)]
    return {
        entry["partition"]: Publication(**{name: entry[name] for name in names})
        for entry in _PUBLICATIONS.entries(lake)
        if entry["asset"] == asset
    }


def require_published(lake: Lake, asset: str, partitions: Sequence[str], *, reader: str) -> None:
    """Raise InputError when a partition that is about to be read has no published version."""
    missing = sorted(set(partitions) - set(published(lake, asset)))
    if missing:
        raise InputError(
            f"{reader}: published partitions of {asset} are required; {spans(missing)} have none, because they were "
            f"never materialized or were refused. Nothing was computed; materialize {asset} for them first"
        )
