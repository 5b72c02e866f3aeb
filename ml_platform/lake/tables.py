"""Delta tables of the lake: read at a version, replaced by partition in one commit.

Reads hand the data files that the Delta log names to DuckDB's own Parquet reader. That is right only while
the files hold exactly the table's rows, so a table with deletion vectors is refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pa_fs
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.lake.rows import Rows, stream

_CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",  # manifests name old versions; cleanup would lose them
    "delta.enableDeletionVectors": "false",  # readers take the data files as they are
}
# The files of all partitions stay open until the commit; dictionaries of a megabyte a column would outgrow their rows.
_WRITER = WriterProperties(dictionary_page_size_limit=64 * 1024)
_HIVE_TYPES = {PARTITION_COLUMN: "DATE", "partition_hour": "TIMESTAMP"}
PartitionFilter = tuple[str, str, Any]


@dataclass(frozen=True)
class Table:
    """One Delta table of the lake, which may not exist yet."""

    uri: str

    def open(self, version: int | None = None) -> DeltaTable | None:
        """The Delta table at a version (default: the newest), or None when nothing was ever written."""
        try:
            return DeltaTable(self.uri, version=version)
        except DeltaError as err:
            if version is not None:
                raise StoreError(f"{self.uri}: version {version} is required and is not there") from err
            if isinstance(err, TableNotFoundError):
                return None
            raise

    def version(self) -> int | None:
        table = self.open()
        return None if table is None else table.version()

    def scan(self, *, version: int | None = None, where: Sequence[PartitionFilter] = ()) -> str:
        """SQL that selects the table's rows, reading only the partitions that pass the filters."""
        return scan_sql(self.uri, version=version, where=where)

    def files(self, *, version: int | None = None, where: Sequence[PartitionFilter] = ()) -> list[str]:
        """Data files of the table, as URIs in a stable order."""
        table = self.open(version)
        return [] if table is None else _files(table, where)

    def newest_of_files(self, column: str, *, where: Sequence[PartitionFilter] = ()) -> dict[str, Any]:
        """The greatest value of a time column in each data file, by URI; None where the log does not have it.

        The log keeps milliseconds: the value in the file may be later by less than one.
        """
        table = self.open()
        if table is None:
            return {}
        actions = pa.table(table.get_add_actions(flatten=True))
        name = f"max.{column}"
        values = actions.column(name).to_pylist() if name in actions.column_names else [None] * len(actions)
        paths = [path if "://" in self.uri else unquote(path) for path in actions.column("path").to_pylist()]
        newest = dict(zip((f"{self.uri.rstrip('/')}/{path}" for path in paths), values, strict=True))
        return {file: newest.get(file) for file in _files(table, where)}

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

    def replace_days(self, data: Rows, *, days: Sequence[str], told: Mapping[str, Any] | None = None) -> int:
        """Replace whole daily partitions in one commit; that commit's version."""
        listed = ", ".join(f"'{day}'" for day in days)
        return self.replace(data, predicate=f"{PARTITION_COLUMN} IN ({listed})", told=told)

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
    """All tables below one root URI, by name: `lake.table("sources/transactions")`."""

    root: str

    def table(self, name: str) -> Table:
        return Table(f"{self.root.rstrip('/')}/{name}")

    @cached_property
    def ledgers(self) -> str:
        return f"{self.root.rstrip('/')}/ledgers"

    def files(self) -> dict[str, int]:
        """Bytes of every file below the root, by its path from there; data, logs, and what nobody names."""
        if "://" in self.root:
            store, base = pa_fs.FileSystem.from_uri(self.root)
        else:
            store, base = pa_fs.LocalFileSystem(), self.root
        found = store.get_file_info(pa_fs.FileSelector(base, recursive=True, allow_not_found=True))
        return {info.path[len(base.rstrip("/")) + 1 :]: info.size for info in found if info.is_file}

    def table_names(self, files: Iterable[str] | None = None) -> list[str]:
        """Names of all tables; of the given files of this lake, if someone has listed them already."""
        listed = self.files() if files is None else files
        return sorted({name for file in listed for name, log, _ in [file.partition("/_delta_log/")] if log})


def scan_sql(
    uri: str,
    *,
    version: int | None = None,
    files: Sequence[str] | None = None,
    where: Sequence[PartitionFilter] = (),
) -> str:
    """SQL that selects the rows of a Delta table, at a version or from named files.

    Columns come by name and partition columns in their declared types; a table without files gives the
    typed empty relation. A table that does not exist is a StoreError: there are no columns to name.
    """
    table = Table(uri).open(version)
    if table is None:
        raise StoreError(
            f"{uri}: a Delta table is required here and nothing was written yet; materialize it first"
        )
    if "deletionVectors" in (table.protocol().reader_features or []):
        raise StoreError(
            f"{uri}: has deletion vectors, which plain file reads would ignore; rewrite the table"
        )
    names = list(files) if files is not None else _files(table, where)
    schema = pa.schema(table.schema().to_arrow())
    if not names:
        return _typed_empty(schema)
    partition_types = {name: _HIVE_TYPES.get(name, "VARCHAR") for name in table.metadata().partition_columns}
    options = ["union_by_name = true"]
    if partition_types:
        typed = ", ".join(f"{name}: {kind}" for name, kind in partition_types.items())
        options += ["hive_partitioning = true", f"hive_types = {{{typed}}}"]
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    columns = ", ".join(f'"{name}"' for name in schema.names)
    rows = f"SELECT * FROM read_parquet([{listed}], {', '.join(options)})"
    # Files from before a column was added do not have it: the table's schema says so, whichever are read.
    return f"SELECT {columns} FROM ({rows} UNION ALL BY NAME {_typed_empty(schema)})"


def _commit_info(file: Path) -> dict[str, Any]:
    """The action of a commit that describes the commit itself."""
    with file.open() as actions:
        for action in actions:
            if action.startswith('{"commitInfo"'):
                return json.loads(action)["commitInfo"]
    return {}


def _files(table: DeltaTable, where: Sequence[PartitionFilter]) -> list[str]:
    uris = table.file_uris(file_pruning_predicate=list(where)) if where else table.file_uris()
    return sorted(
        uri if "://" in uri else unquote(uri) for uri in uris
    )  # a local path comes quoted as in a URL


def _typed_empty(schema: pa.Schema) -> str:
    columns = ", ".join(f'CAST(NULL AS {_duckdb_type(field.type)}) AS "{field.name}"' for field in schema)
    return f"SELECT {columns} WHERE false"


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{_duckdb_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = (f'"{field.name}" {_duckdb_type(field.type)}' for field in kind)
        return f"STRUCT({', '.join(fields)})"
    if pa.types.is_map(kind):
        return f"MAP({_duckdb_type(kind.key_type)}, {_duckdb_type(kind.item_type)})"
    return _SIMPLE_TYPES[str(kind)]


_SIMPLE_TYPES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "string_view": "VARCHAR",
    "binary": "BLOB",
    "large_binary": "BLOB",
    "binary_view": "BLOB",
    "date32[day]": "DATE",
}
