"""Turns Feast sources and feature views into what the point-in-time join reads."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from feast import FeatureView, Field
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_NAME
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.registry.base_registry import BaseRegistry
from feast.value_type import ValueType

from ml_platform.features.view_reads import Feature, ViewRead
from ml_platform.kernel.errors import DeclarationError, StoreError
from ml_platform.lake.snapshots import snapshot

AVAILABLE_AFTER_TAG = "available_after"
"""Tag of a feature view: whole seconds after its event time from which a row may be used."""

_TIME = "TIMESTAMP WITH TIME ZONE"
_DECLARED_TYPES = {
    ValueType.STRING: "VARCHAR",
    ValueType.INT32: "INTEGER",
    ValueType.INT64: "BIGINT",
    ValueType.FLOAT: "FLOAT",
    ValueType.DOUBLE: "DOUBLE",
    ValueType.BOOL: "BOOLEAN",
    ValueType.UNIX_TIMESTAMP: _TIME,
    ValueType.STRING_LIST: "VARCHAR[]",
    ValueType.INT32_LIST: "INTEGER[]",
    ValueType.INT64_LIST: "BIGINT[]",
    ValueType.FLOAT_LIST: "FLOAT[]",
    ValueType.DOUBLE_LIST: "DOUBLE[]",
    ValueType.BOOL_LIST: "BOOLEAN[]",
    ValueType.UNIX_TIMESTAMP_LIST: _TIME + "[]",
}
_FAMILIES = {
    "integer": ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    "float": ("FLOAT", "DOUBLE"),
    "exact": ("HUGEINT", "UHUGEINT", "DECIMAL"),
    "boolean": ("BOOLEAN",),
    "text": ("VARCHAR",),
    "date": ("DATE",),
    "time": (_TIME,),
    "other time": ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMPTZ_NS"),
}
_NUMBERS_IN_A_TEXT = 8
_FAMILY = {kind: family for family, kinds in _FAMILIES.items() for kind in kinds}


@dataclass(frozen=True)
class SourceReader:
    """Finds the rows of file sources: relative to the repository, at pinned versions or in named files."""

    repo_path: Path | None
    versions: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def select(self, source: DataSource | None) -> str:
        """SQL that selects all rows and columns of a source, under the source's own names.

        Raises DeclarationError for a source that is not made of files, StoreError if there is nothing to read.
        """
        declared = file_source(source)
        location = self.absolute(declared.path)
        pinned = self.files.get(declared.path)
        if is_delta(declared, location):
            return snapshot(location, self.versions.get(declared.path)).scan(pinned)
        if pinned is not None:
            return _parquet_sql(pinned, hive=any("=" in Path(name).parent.name for name in pinned))
        return _parquet_rows(location)

    def absolute(self, path: str) -> str:
        """A declared path below the repository as an absolute one; URIs stay as they are."""
        repo = None if self.repo_path is None else str(self.repo_path)
        return FileSource.get_uri_for_file_path(repo, path.removeprefix("file://"))


def file_source(source: DataSource | None) -> FileSource:
    """The source, which must be made of files. Raises DeclarationError if it is another kind."""
    if isinstance(source, FileSource):
        return source
    kind = "no batch source" if source is None else f"a {type(source).__name__}"
    raise DeclarationError(
        f"the point-in-time offline store reads a FileSource (Parquet or Delta); it was given {kind}"
    )


def is_delta(source: FileSource, location: str) -> bool:
    """Whether a source is a Delta table: it says so, or its folder has a Delta log."""
    return isinstance(source.file_format, DeltaFormat) or (Path(location) / "_delta_log").is_dir()


def view_read(
    view: FeatureView,
    features: Sequence[tuple[str, str]],
    *,
    relation: str,
    columns: Mapping[str, str],
    join_keys: Sequence[str],
    known_at: bool,
) -> ViewRead:
    """What to read of a feature view, for features given as pairs of feature name and name in the answer.

    Raises DeclarationError if a declared column is not in the source.
    """
    source = file_source(view.batch_source)
    declared = {feature.name: feature for feature in view.projection.features}
    renamed = view.projection.join_key_map
    created = source.created_timestamp_column

    def column(name: str) -> str:
        return source_column(name, mapping=source.field_mapping or {}, columns=columns, owner=view.name)

    def feature(name: str, output: str) -> Feature:
        found = column(name)
        return Feature(found, output, answer_type(declared.get(name), columns[found]))

    return ViewRead(
        relation=relation,
        columns=columns,
        keys=tuple((column(key), renamed.get(key, key)) for key in join_keys),
        features=tuple(feature(name, output) for name, output in features),
        event_time=column(source.timestamp_field),
        created_time=column(created) if created else None,
        ttl=_microseconds(view.ttl),
        available_after=available_after(view),
        known_at=known_at,
    )


def source_column(name: str, *, mapping: Mapping[str, str], columns: Mapping[str, str], owner: str) -> str:
    """The source's column behind a name after the field mapping; mapped columns that are absent are ignored.

    Raises DeclarationError if there is none.
    """
    for old, new in mapping.items():
        if new == name and old in columns:
            return old
    if name in columns:
        return name
    raise DeclarationError(
        f"{owner}: column {name!r} is required, and the source has {sorted(columns)}; "
        "mend the schema of the feature view or the field_mapping of its source"
    )


def join_keys_of(view: FeatureView, registry: BaseRegistry, project: str) -> list[str]:
    """Join keys of a view in order; empty for a view without entities.

    Feast infers no entity column for a key that a field mapping renames, and would then join on time alone.
    """
    keys = [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    entities = [name for name in view.entities if name != DUMMY_ENTITY_NAME]
    if len(keys) >= len(entities):
        return keys
    return [registry.get_entity(name, project, allow_cache=True).join_key for name in entities]


def available_after(view: FeatureView) -> int:
    """Microseconds after its event time from which a row of the view may be used, from the view's tag."""
    text = (view.tags or {}).get(AVAILABLE_AFTER_TAG, "0")
    if not re.fullmatch("[0-9]+", text):
        raise DeclarationError(
            f"feature view {view.name}: tag {AVAILABLE_AFTER_TAG} must be whole seconds, such as 3600; got {text!r}"
        )
    return int(text) * 1_000_000


def describe(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Columns of a SELECT with their DuckDB types."""
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {relation}").fetchall()}


def answer_type(declared: Field | None, found: str) -> str | None:
    """The DuckDB type to cast a column of type `found` to, or None if it stays as it is.

    Numbers, texts and lists of them become what the feature declares, in the width that the source has, as
    Feast's tests want it. Times become microseconds in UTC. What has no plain counterpart (structs, maps, JSON,
    bytes, a time stored as a number) is left alone.
    """
    item, many = (found[:-2], "[]") if found.endswith("[]") else (found, "")
    family = _FAMILY.get(item.partition("(")[0])
    wanted = _DECLARED_TYPES.get(declared.dtype.to_value_type()) if declared is not None else None
    if family in ("time", "other time") and wanted != "VARCHAR" + many:
        wanted = _TIME + many
    if family is None or wanted is None or wanted.endswith("[]") != bool(many):
        return None
    wanted_family = _FAMILY[wanted.removesuffix("[]")]
    number_as_time = wanted_family == "time" and family in ("integer", "float", "exact", "boolean")
    return None if wanted_family == family or number_as_time else wanted


def values_held(kind: str) -> int | None:
    """How many numbers take as much memory as a value of a DuckDB type; None if that cannot be said."""
    family = _FAMILY.get(kind.partition("(")[0])
    return None if family is None else _NUMBERS_IN_A_TEXT if family == "text" else 1


def comparable(left: str, right: str) -> bool:
    """Whether keys of two DuckDB types can be compared for equality as they are; unknown types may try."""
    families = {_FAMILY.get(kind.partition("(")[0]) for kind in (left, right)}
    numbers = {"integer", "float", "exact"}
    return None in families or len(families) == 1 or families <= numbers


def _microseconds(length: dt.timedelta | None) -> int:
    return 0 if length is None else length // dt.timedelta(microseconds=1)


def _parquet_rows(location: str) -> str:
    """SQL over a Parquet source: a file, a pattern, or all visible files below a folder."""
    folder = Path(location)
    if "://" in location or (not folder.exists() and re.search("[*?]", location)):
        return _parquet_sql([location], hive="=" in location)
    if folder.is_file():
        return _parquet_sql([_literal_path(location)], hive=False)
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*.parquet"))]
    visible = [path for path in found if not _hidden(path)]
    if not visible:
        raise StoreError(
            f"{location}: Parquet files are required here and there are none; write the source first"
        )
    files = [_literal_path(str(folder / path)) for path in visible]
    return _parquet_sql(files, hive=any("=" in part for path in visible for part in path.parent.parts))


def _hidden(path: Path) -> bool:
    return any(part.startswith(("_", ".")) and "=" not in part for part in path.parts)


def _literal_path(path: str) -> str:
    """The path with the characters that DuckDB would read as a pattern taken literally."""
    return re.sub(r"([\[*?])", r"[\1]", path)


def _parquet_sql(files: Sequence[str], *, hive: bool) -> str:
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    options = f"union_by_name = true, hive_partitioning = {'true' if hive else 'false'}"
    return f"SELECT * FROM read_parquet([{listed}], {options})"
