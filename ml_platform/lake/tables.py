"""Delta tables of the lake: replaced by partition in one commit, read at a version (`snapshots` has how)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs
from deltalake import CommitProperties, DeltaTable, QueryBuilder, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError
from sqlglot import exp
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import PARTITION_COLUMN, cadence_of
from ml_platform.lake.object_store import answering, require_bucket
from ml_platform.lake.rows import Rows, stream
from ml_platform.lake.snapshots import PartitionFilter, Snapshot, files_of, open_table, snapshot

_CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",  # manifests name old versions; cleanup would lose them
    "delta.enableDeletionVectors": "false",  # readers take the data files as they are
    "delta.checkpointInterval": "10",  # opening reads every commit since the last one, and delta-rs's default is 100
}
# The files of all partitions stay open until the commit; dictionaries of a megabyte a column would outgrow their rows.
_WRITER = WriterProperties(dictionary_page_size_limit=64 * 1024)


@dataclass(frozen=True)
class Table:
    """One Delta table of the lake, which may not exist yet."""

    uri: str

    def open(self, version: int | None = None) -> DeltaTable | None:
        """The Delta table at a version (default: the newest), or None when nothing was ever written."""
        return open_table(self.uri, version)

    def at(self, version: int | None = None) -> Snapshot:
        """The table at a version (default: the newest), to read from; StoreError when nothing was ever written."""
        return snapshot(self.uri, version)

    def version(self) -> int | None:
        table = self.open()
        return None if table is None else table.version()

    def scan(self, *, version: int | None = None, where: Sequence[PartitionFilter] = ()) -> str:
        """SQL that selects the table's rows, reading only the partitions that pass the filters."""
        return self.at(version).scan(where=where)

    def files(self, *, version: int | None = None, where: Sequence[PartitionFilter] = ()) -> list[str]:
        """Data files of the table, as URIs in a stable order; none when nothing was ever written."""
        table = self.open(version)
        return [] if table is None else files_of(table, where)

    def answer(self, query: exp.Select) -> list[dict[str, Any]]:
        """The answer to a small question about all rows, in no order; no rows when nothing was ever written.

        Where every commit leaves a small file, the table's own engine is much faster than a scan: it opens no file
        whose statistics say that it has nothing.
        """
        table = self.open()
        if table is None:
            return []
        found = QueryBuilder().register("rows", table).execute(query.from_("rows").sql())
        return pa.table(found.read_all()).to_pylist()

    def replace(
        self,
        data: Rows,
        *,
        predicate: str,
        partition_by: Sequence[str] = (PARTITION_COLUMN,),
        told: Mapping[str, Any] | None = None,
    ) -> int:
        """Replace the rows that match the predicate by the given ones, in one commit; that commit's version.

        A relation is written as it is read, and not held. What is `told` (JSON values by name) is kept with
        the commit, and `commits_after` gives it back.
        """
        return self._write(
            data, mode="overwrite", predicate=predicate, partition_by=partition_by, told=told or {}
        )

    def replace_partitions(
        self, data: Rows, *, keys: Sequence[str], told: Mapping[str, Any] | None = None
    ) -> int:
        """Replace whole partitions of one cadence in one commit; that commit's version."""
        column, listed = cadence_of(keys[0]).column, ", ".join(f"'{key}'" for key in keys)
        return self.replace(data, predicate=f"{column} IN ({listed})", partition_by=[column], told=told)

    def append(self, data: pa.Table, *, partition_by: Sequence[str] = ()) -> int:
        """Add rows in one commit; that commit's version."""
        return self._write(data, mode="append", predicate=None, partition_by=partition_by, told={})

    def commits_after(self, version: int) -> list[dict[str, Any]]:
        """What the commits after a version say about themselves, oldest first, each with its `version`.

        In a local lake the table is not opened for it: when there are none, it costs one look at a folder.
        """
        if "://" in self.uri:
            table = self.open()
            newer = table.version() - version if table is not None else 0
            return table.history(newer)[::-1] if table is not None and newer > 0 else []
        found: list[dict[str, Any]] = []
        # `history` finds nothing in a folder with `#` or `?` in its name, and does not say so.
        while (file := Path(self.uri) / "_delta_log" / f"{version + 1:020}.json").exists():
            version += 1
            found.append({**_commit_info(file), "version": version})
        return found

    @retry(
        retry=retry_if_exception_type(CommitFailedError),
        stop=stop_after_attempt(12),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    def _write(
        self,
        data: Rows,
        *,
        mode: Any,
        predicate: str | None,
        partition_by: Sequence[str],
        told: Mapping[str, Any],
    ) -> int:
        """Write in one commit, again when another writer was faster; the version of our commit, not of theirs."""
        reader = stream(data)
        table = self.open() or self._created(reader.schema, partition_by)
        self._require_partitions(table, partition_by)
        write_deltalake(
            table,
            reader,
            mode=mode,
            predicate=predicate,
            partition_by=list(partition_by) or None,
            schema_mode="merge",
            writer_properties=_WRITER,
            commit_properties=CommitProperties(custom_metadata=dict(told)),
        )
        return table.version()  # an open table follows its own commit

    def _require_partitions(self, table: DeltaTable, wanted: Sequence[str]) -> None:
        """Raise StoreError for a table of other partitions, such as of days where hours come."""
        found = table.metadata().partition_columns
        if wanted and found != list(wanted):
            raise StoreError(
                f"{self.uri}: a table partitioned by {', '.join(wanted)} is required; it is by {', '.join(found)}. "
                f"Nothing was written; a source that has other partitions from now on needs another name"
            )

    def _created(self, schema: pa.Schema, partition_by: Sequence[str]) -> DeltaTable:
        """The table, made without rows: of two first writes at once, neither would see the other's rows."""
        DeltaTable.create(
            self.uri,
            schema=schema,
            mode="ignore",
            partition_by=list(partition_by) or None,
            configuration=_CONFIGURATION,
        )
        return DeltaTable(self.uri)


@dataclass(frozen=True)
class Lake:
    """All tables below one root URI, by name: `lake.table("sources/orders")`."""

    root: str

    def table(self, name: str) -> Table:
        return Table(f"{self.root.rstrip('/')}/{name}")

    @cached_property
    def ledgers(self) -> str:
        return f"{self.root.rstrip('/')}/ledgers"

    @cached_property
    def filesystem(self) -> tuple[pa_fs.FileSystem, str]:
        """Where the root is: a folder of this machine or of an object store, and its path there."""
        if "://" in self.root:
            return pa_fs.FileSystem.from_uri(self.root)
        return pa_fs.LocalFileSystem(), self.root

    def require_place(self) -> None:
        """StoreError where nothing is found because the bucket is missing: a lake without it is not an empty one."""
        if self.root.startswith("s3://"):
            with answering(self.root):
                require_bucket(*self.filesystem)

    def files(self) -> dict[str, int]:
        """Bytes of every file below the root, by its path from there; data, logs, and what nobody names.

        Raises StoreError for a store that does not answer and for a bucket that is missing.
        """
        store, base = self.filesystem
        with answering(self.root):
            found = store.get_file_info(pa_fs.FileSelector(base, recursive=True, allow_not_found=True))
        if not found:
            self.require_place()
        return {info.path[len(base.rstrip("/")) + 1 :]: info.size for info in found if info.is_file}

    def table_names(self, files: Iterable[str] | None = None) -> list[str]:
        """Names of all tables; of the given files of this lake, if someone has listed them already."""
        listed = self.files() if files is None else files
        return sorted({name for file in listed for name, log, _ in [file.partition("/_delta_log/")] if log})


def _commit_info(file: Path) -> dict[str, Any]:
    """The action of a commit that describes the commit itself."""
    with file.open() as actions:
        for action in actions:
            if action.startswith('{"commitInfo"'):
                return json.loads(action)["commitInfo"]
    return {}
