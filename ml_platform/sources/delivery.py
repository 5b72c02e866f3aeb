"""One delivered file, read by its source's declaration: typed columns, and good rows split from bad.

Apart from `compute.py`, which is about rows that have landed, because a file is text or Parquet, and may be anything.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import HOURLY, cadence_of, key_range
from ml_platform.lake.snapshots import literal_path
from ml_platform.sources.casts import accepts, parsed_sql, value_sql
from ml_platform.sources.compute import arrival_sql, columns_of, partition_sql
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceColumn, SourceSpec

_TEXT_SUFFIXES = (".csv", ".gz", ".txt")
_POSITION = "__position"
# Only the delimiter is guessed: guessing lines to skip, comments or quotes can lose rows without a word.
_CSV_OPTIONS = """all_varchar = true, header = true, skip = 0, comment = '', quote = '"', escape = '"'"""


@dataclass(frozen=True)
class Delivery:
    """One file as it was split: rows in all, bad rows, and good rows by the partition of their event."""

    rows: int
    bad: int
    rows_by_day: Mapping[str, int]

    @property
    def days(self) -> tuple[str, ...]:
        return tuple(self.rows_by_day)


def declared_time(text: str) -> str:
    """A time that a person declares, as ISO text in UTC; InputError when it is none. Without a zone it is UTC."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as err:
        raise InputError(
            f"--known-at requires a time such as 2018-06-01T00:00:00, in UTC unless it names a zone; got {text!r}. "
            f"Nothing was landed"
        ) from err
    return (time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)).isoformat()


def split_file(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, path: Path, *, known_at: str | None = None
) -> Delivery:
    """Read one file into the temporary table `delivered`: typed columns, position, day, and why a row is bad.

    Raises InputError, and leaves nothing behind, for a file that is refused whole: unreadable, empty, wrong
    columns or types, one (id, created) with two contents, or more bad rows than declared. `known_at` is a
    time as `declared_time` gives it.
    """
    created = _created_sql(spec, known_at)
    file = _open(connection, path)
    _require_columns(spec, file)
    _read(connection, f"CREATE OR REPLACE TEMP TABLE typed AS {_typed_sql(spec, file)}", file)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE delivered AS {_reasons_sql(spec, file, created)}")
    connection.execute("DROP TABLE typed")
    rows, bad = connection.execute("SELECT count(*), count(reason) FROM delivered").fetchall()[0]
    if rows == 0:
        raise InputError(f"{path}: rows are required and the file has none; nothing was landed")
    if bad > rows * spec.max_bad_share:
        raise InputError(_too_many_bad(connection, spec, path, rows, bad))
    _require_one_content(connection, spec, path)
    found = connection.execute(
        f"SELECT CAST({spec.cadence.column} AS VARCHAR), count(*) FROM delivered WHERE reason IS NULL "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return Delivery(rows, bad, _with_quiet_hours(dict(found)))


def _with_quiet_hours(rows: Mapping[str, int]) -> dict[str, int]:
    """Rows by partition; of hours also those between the first and the last, in which nothing happened.

    A day without events is said to have none by a person; hours without any are nothing unusual.
    """
    keys = sorted(rows)
    hourly = bool(keys) and cadence_of(keys[0]) == HOURLY
    return {key: rows.get(key, 0) for key in (key_range(keys[0], keys[-1]) if hourly else keys)}


@dataclass(frozen=True)
class _File:
    """A delivered file as DuckDB reads it: a relation with the position of each row, and its column types."""

    path: Path
    relation: str
    is_text: bool
    types: Mapping[str, str] = field(default_factory=dict[str, str])


def _open(connection: duckdb.DuckDBPyConnection, path: Path) -> _File:
    quoted = literal_path(str(path))
    is_text = path.suffix.lower() in _TEXT_SUFFIXES
    reader = f"read_csv({quoted}, {_CSV_OPTIONS})" if is_text else f"read_parquet({quoted})"
    file = _File(path, f"(SELECT *, row_number() OVER () - 1 AS {_POSITION} FROM {reader})", is_text)
    described = _read(connection, f"DESCRIBE SELECT * FROM {file.relation}", file)
    return replace(file, types={row[0]: row[1] for row in described if row[0] != _POSITION})


def _read(connection: duckdb.DuckDBPyConnection, query: str, file: _File) -> list[tuple[Any, ...]]:
    """Run a query over a delivered file; one that breaks off or is garbled is an InputError."""
    try:
        return connection.execute(query).fetchall()
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as err:
        wanted = "a CSV file with a header" if file.is_text else "a complete Parquet file"
        first_line = str(err).splitlines()[0]
        raise InputError(
            f"{file.path}: {wanted} is required; {first_line}. The file was refused whole"
        ) from err


def _require_columns(spec: SourceSpec, file: _File) -> None:
    wanted = spec.file_columns()
    missing = sorted(set(wanted.values()) - set(file.types))
    unknown = sorted(set(file.types) - set(wanted.values()) - set(spec.ignore))
    if missing or unknown:
        raise InputError(
            f"{file.path}: source {spec.name!r} requires columns {sorted(set(wanted.values()))}; "
            f"missing: {missing or 'none'}, unknown: {unknown or 'none'}. The file was refused whole; "
            f"map columns with `from:` or name what to leave out under `ignore:` in the declaration"
        )
    wrong = [
        f"{column} must be {spec.columns[name].type}, is {file.types[column]}"
        for name, column in wanted.items()
        if not file.is_text and not accepts(spec.columns[name].type, file.types[column])
    ]
    if wrong:
        raise InputError(f"{file.path}: wrong column types: {'; '.join(wrong)}. The file was refused whole")


def _typed_sql(spec: SourceSpec, file: _File) -> str:
    wanted = spec.file_columns()
    columns = [
        f'{value_sql(column.type, wanted[name], found=None if file.is_text else file.types[wanted[name]])} AS "{name}"'
        for name, column in spec.columns.items()
    ]
    unread = [
        f'("{wanted[name]}" IS NOT NULL AND {parsed_sql(column.type, wanted[name])} IS NULL) AS __unread_{name}'
        for name, column in spec.columns.items()
        if file.is_text
    ]
    return f"SELECT {', '.join(columns + unread)}, {_POSITION} AS position FROM {file.relation}"


def _created_sql(spec: SourceSpec, known_at: str | None) -> str:
    """SQL of the time at which a row is known: its column, or the declared time, or its event's plus `arrival`."""
    if known_at is None:
        return CREATED_TIME if CREATED_TIME in spec.columns else arrival_sql(spec)
    if CREATED_TIME in spec.columns:
        raise InputError(
            f"--known-at is for files that do not say when their rows were known; those of source {spec.name!r} "
            f"carry {CREATED_TIME}. Nothing was landed; leave it out"
        )
    return f"TIMESTAMPTZ '{known_at}'"


def _reasons_sql(spec: SourceSpec, file: _File, created: str) -> str:
    reasons = [reason for name, column in spec.columns.items() for reason in _row_rules(name, column, spec)]
    if file.is_text:
        reasons += [
            f"CASE WHEN __unread_{n} THEN '{n} cannot be read' END"
            for n, c in spec.columns.items()
            if c.nullable
        ]
    bounds = [f"{EVENT_TIME} < TIMESTAMPTZ '{spec.start}'"]
    if spec.end is not None:
        bounds.append(f"{EVENT_TIME} >= TIMESTAMPTZ '{spec.end}' + INTERVAL 1 DAY")
    outside = f"event outside the source''s declared range from {spec.start}" + (
        f" to {spec.end}" if spec.end else ""
    )
    reasons.append(f"CASE WHEN {' OR '.join(bounds)} THEN '{outside}' END")
    columns = ", ".join(f'"{name}"' for name in spec.columns if name != CREATED_TIME)
    return f"""
SELECT {columns}, {created} AS {CREATED_TIME}, {partition_sql(spec)} AS {spec.cadence.column}, position,
       nullif(concat_ws('; ', {", ".join(reasons)}), '') AS reason
FROM typed"""


def _row_rules(name: str, column: SourceColumn, spec: SourceSpec) -> list[str]:
    """SQL of the reasons for which one column makes a row bad."""
    quoted = f'"{name}"'
    required = not column.nullable or name in (spec.event_id, EVENT_TIME, CREATED_TIME)
    rules = [f"CASE WHEN {quoted} IS NULL THEN '{name} is missing or cannot be read' END"] if required else []
    if column.minimum is not None:
        rules.append(f"CASE WHEN {quoted} < {column.minimum!r} THEN '{name} below {column.minimum:g}' END")
    if column.maximum is not None:
        rules.append(f"CASE WHEN {quoted} > {column.maximum!r} THEN '{name} above {column.maximum:g}' END")
    return rules


def _too_many_bad(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, path: Path, rows: int, bad: int
) -> str:
    top = connection.execute(
        "SELECT reason, count(*), min(position) FROM delivered WHERE reason IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC LIMIT 3"
    ).fetchall()
    examples = "; ".join(f"{reason} ({count} rows, first at {first})" for reason, count, first in top)
    return (
        f"{path}: at most {spec.max_bad_share:.1%} bad rows are allowed; {bad:,} of {rows:,} are bad: {examples}. "
        f"The file was refused whole; mend it, or raise `max_bad_share` of source {spec.name!r}"
    )


def _require_one_content(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, path: Path) -> None:
    event_id = f'"{spec.event_id}"'
    content = ", ".join(f'"{name}"' for name in columns_of(spec))
    found = connection.execute(f"""
WITH repeated AS (SELECT {event_id} FROM delivered WHERE reason IS NULL GROUP BY 1 HAVING count(*) > 1)
SELECT min({event_id}), count(*) FROM (
  SELECT {event_id} FROM delivered SEMI JOIN repeated USING ({event_id}) WHERE reason IS NULL GROUP BY 1
  HAVING count(DISTINCT {EVENT_TIME}) > 1 OR count(DISTINCT hash({content})) > count(DISTINCT {CREATED_TIME}))
""").fetchall()[0]
    if found[1]:
        raise InputError(
            f"{path}: one content per ({spec.event_id}, created) and one event time per id are required; "
            f"{found[1]} ids have several, such as {spec.event_id} {found[0]}. The file was refused whole; "
            f"give corrections a later created time"
        )
