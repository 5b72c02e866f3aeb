"""One version of a Delta table, opened once: which data files it has, and SQL that selects its rows.

Reads hand the data files that the Delta log names to DuckDB's own Parquet reader. That is right only while
the files hold exactly the table's rows, so a table with deletion vectors is refused.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import CADENCES, PARTITION_COLUMN, Cadence
from ml_platform.lake.object_store import answering

_HIVE_TYPES = {PARTITION_COLUMN: "DATE"}
PartitionFilter = tuple[str, str, Any]


def open_table(uri: str, version: int | None = None) -> DeltaTable | None:
    """The Delta table at a version (default: the newest), or None when nothing was ever written."""
    try:
        with answering(uri):
            return DeltaTable(uri, version=version)
    except DeltaError as err:
        if version is not None:
            raise StoreError(f"{uri}: version {version} is required and is not there") from err
        if isinstance(err, TableNotFoundError):
            return None
        raise


def snapshot(uri: str, version: int | None = None) -> "Snapshot":
    """A table at a version (default: the newest); StoreError for one that does not exist: it has no columns to name."""
    table = open_table(uri, version)
    if table is None:
        raise StoreError(
            f"{uri}: a Delta table is required here and nothing was written yet; materialize it first"
        )
    if "deletionVectors" in (table.protocol().reader_features or []):
        raise StoreError(
            f"{uri}: has deletion vectors, which plain file reads would ignore; rewrite the table"
        )
    return Snapshot(uri, table)


@dataclass(frozen=True)
class Snapshot:
    """A Delta table at one version: all that is read of it is of one moment, however long reading takes."""

    uri: str
    table: DeltaTable

    @property
    def version(self) -> int:
        return self.table.version()

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema(self.table.schema().to_arrow())

    @property
    def cadence(self) -> Cadence:
        """How often the table has a partition, by its columns."""
        (found,) = (cadence for cadence in CADENCES.values() if cadence.column in self.schema.names)
        return found

    def files(self, where: Sequence[PartitionFilter] = ()) -> list[str]:
        """Data files of the partitions that pass the filters, as URIs in a stable order."""
        return files_of(self.table, where)

    def newest_of_files(self, column: str, where: Sequence[PartitionFilter] = ()) -> dict[str, Any]:
        """The greatest value of a time column in each data file, by URI; None where the log does not have it.

        The log keeps milliseconds: the value in the file may be later by less than one.
        """
        actions = pa.table(self.table.get_add_actions(flatten=True))
        name = f"max.{column}"
        values = actions.column(name).to_pylist() if name in actions.column_names else [None] * len(actions)
        paths = map(unquote, actions.column("path").to_pylist())  # in the log they are quoted as in a URL
        newest = dict(zip((f"{self.uri.rstrip('/')}/{path}" for path in paths), values, strict=True))
        return {file: newest.get(file) for file in self.files(where)}

    def scan(self, files: Sequence[str] | None = None, *, where: Sequence[PartitionFilter] = ()) -> str:
        """SQL that selects the rows of named files, or of the partitions that pass the filters.

        Columns come by name and partition columns in their declared types; without files it gives the typed
        empty relation.
        """
        names = list(files) if files is not None else self.files(where)
        if not names:
            return _typed_empty(self.schema)
        kinds = {name: _HIVE_TYPES.get(name, "VARCHAR") for name in self.table.metadata().partition_columns}
        options = ["union_by_name = true"]
        if kinds:
            typed = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
            options += ["hive_partitioning = true", f"hive_types = {{{typed}}}"]
        listed = ", ".join(literal_path(name) for name in names)
        columns = ", ".join(f'"{name}"' for name in self.schema.names)
        rows = f"SELECT * FROM read_parquet([{listed}], {', '.join(options)})"
        # Files from before a column was added do not have it: the table's schema says so, whichever are read.
        return f"SELECT {columns} FROM ({rows} UNION ALL BY NAME {_typed_empty(self.schema)})"


def literal_path(path: str) -> str:
    """A path as SQL text that DuckDB's readers take as it is: a character that is a pattern would name other files."""
    return "'" + glob.escape(path).replace("'", "''") + "'"


def files_of(table: DeltaTable, where: Sequence[PartitionFilter]) -> list[str]:
    """Data files of an open table, as URIs in a stable order."""
    uris = table.file_uris(file_pruning_predicate=list(where)) if where else table.file_uris()
    root = urlsplit(table.table_uri)
    if root.scheme != "file":
        return sorted(uris)
    # A local table's own path comes quoted as in a URL, and what is below it as it is.
    return sorted(f"{unquote(root.path)}{uri.removeprefix(root.path)}" for uri in uris)


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
