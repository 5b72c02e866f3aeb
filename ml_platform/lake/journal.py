"""Tables that grow by many small commits of many writers: nothing twice, and as quick to read as others.

A service commits every few seconds, all day. Left alone, each commit would be a file that every read opens and every
checkpoint lists. So a writer merges the small files of the days that it wrote to now and then, and the log forgets
what was merged: a journal has no old versions to go back to, other than the tables of `tables`.
"""

from dataclasses import dataclass, field
from uuid import uuid4

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.lake.snapshots import open_table

MERGE_EVERY = 60
"""Commits of one writer between two merges of its days' files."""

_FULL = (
    32 * 1024 * 1024
)  # a file of so many bytes is left alone, so that each row is rewritten a few times at most
_CONFIGURATION = {
    "delta.enableDeletionVectors": "false",  # readers take the data files as they are
    "delta.checkpointInterval": "10",  # opening reads every commit since the last one
    "delta.enableExpiredLogCleanup": "true",
    "delta.logRetentionDuration": "interval 10 minutes",  # longer than any read takes to open the table
    "delta.deletedFileRetentionDuration": "interval 10 minutes",  # after it, checkpoints do not list what was merged
}
_SMALL = WriterProperties(compression="LZ4_RAW", dictionary_page_size_limit=64 * 1024)
"""Of what is appended: written beside requests, so with little work, and merged soon."""
_MERGED = WriterProperties(compression="ZSTD", dictionary_page_size_limit=64 * 1024)


@dataclass
class Journal:
    """One writer of a table with daily partitions. Other writers, of this process or of others, may append at once."""

    uri: str
    schema: pa.Schema
    merge_every: int = MERGE_EVERY
    _writer: str = field(default_factory=lambda: uuid4().hex, init=False)
    _table: DeltaTable | None = field(default=None, init=False)
    _unmerged: int = field(default=0, init=False)
    _days: set[str] = field(default_factory=set[str], init=False)

    def append(self, rows: pa.Table, *, number: int) -> None:
        """Add rows in one commit, which only this writer's greater numbers follow.

        The commit has the number (a transaction of the Delta protocol): whoever does not know whether it succeeded
        appends the same number again, and the rows are there once. What cannot be written is tried once more on the
        table as it is now: of one that was read long ago, others may have forgotten what its log was made of.
        """
        try:
            self._append(rows, number)
        except Exception:  # noqa: BLE001 (whatever it was: the second try says what it is)
            self._append(rows, number)

    def _append(self, rows: pa.Table, number: int) -> None:
        table, self._table = (
            self._opened(),
            None,
        )  # until it is written, nobody knows whether it is as it says
        if (table.transaction_version(self._writer) or 0) >= number:
            return
        write_deltalake(
            table,
            rows,
            mode="append",
            partition_by=[PARTITION_COLUMN],
            schema_mode=None if pa.schema(table.schema().to_arrow()).equals(rows.schema) else "merge",
            writer_properties=_SMALL,
            commit_properties=CommitProperties(app_transactions=[Transaction(self._writer, number)]),
        )
        self._table = table
        self._unmerged += 1
        self._days |= {day.isoformat() for day in rows.column(PARTITION_COLUMN).unique().to_pylist()}

    def merge_if_due(self) -> bool:
        """Merge the small files of the days that were written to, if there are many by now; whether that was done.

        Another writer that merges the same files at the same moment has done it for both.
        """
        if self._unmerged < self.merge_every:
            return False
        days, self._days, self._unmerged = sorted(self._days), set(), 0
        table = self._opened()
        try:
            for day in days:
                table.optimize.compact(
                    partition_filters=[(PARTITION_COLUMN, "=", day)],
                    target_size=_FULL,
                    writer_properties=_MERGED,
                )
        except CommitFailedError:
            return False
        finally:
            self._table = None
        return True

    def _opened(self) -> DeltaTable:
        if self._table is None:
            self._table = open_table(self.uri) or self._created()
        return self._table

    def _created(self) -> DeltaTable:
        """The table, made without rows: of two first writes at once, neither would see the other's rows."""
        DeltaTable.create(
            self.uri,
            schema=self.schema,
            mode="ignore",
            partition_by=[PARTITION_COLUMN],
            configuration=_CONFIGURATION,
        )
        return DeltaTable(self.uri)


def rows_by_day(table: DeltaTable) -> dict[str, int]:
    """How many rows each daily partition has, as the log knows it; no data file is opened."""
    actions = pa.table(table.get_add_actions(flatten=True))
    days = actions.column(f"partition.{PARTITION_COLUMN}").to_pylist()
    counts: dict[str, int] = {}
    for day, rows in zip(days, actions.column("num_records").to_pylist(), strict=True):
        counts[str(day)] = counts.get(str(day), 0) + rows
    return counts
