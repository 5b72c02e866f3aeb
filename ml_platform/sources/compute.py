"""Pure work of sources: read a delivered file by its declaration, split good rows from bad, merge versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceColumn, SourceSpec

DUCKDB_TYPES = {
    "int64": "BIGINT",
    "int32": "INTEGER",
    "double": "DOUBLE",
    "float": "FLOAT",
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
}
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_ACCEPTED = {
    "int64": _INTEGERS,
    "int32": _INTEGERS - {"BIGINT", "UINTEGER"},
    "double": {"DOUBLE", "FLOAT", *_INTEGERS},
    "float": {"FLOAT"},
    "string": {"VARCHAR"},
    "boolean": {"BOOLEAN"},
    "timestamp": {
        "DATE",
        "TIMESTAMP",
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP_NS",
        "TIMESTAMP_MS",
        "TIMESTAMP_S",
    },
}


@dataclass(frozen=True)
class Delivery:
    """One file as it was split: rows in all, bad rows, and the days that its good rows touch."""

    rows: int
    bad: int
    days: tuple[str, ...]


def columns_of(spec: SourceSpec) -> list[str]:
    """Lake columns of a source, in declared order, with the created time last if files do not carry it."""
    names = list(spec.columns)
    return names if CREATED_TIME in names else [*names, CREATED_TIME]


def split_file(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, path: Path, *, known_at: str | None = None
) -> Delivery:
    """Read one file into the temporary table `delivered`: typed columns, position, day, and why a row is bad.

    Raises InputError, and leaves nothing behind, for a file that is refused whole: unreadable, empty, wrong
    columns or types, one (id, created) with two contents, or more bad rows than declared.
    """
    raw, is_text = _open(connection, path)
    _require_columns(connection, spec, raw, path, is_text=is_text)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE typed AS {_typed_sql(spec, raw, is_text, known_at)}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE delivered AS {_reasons_sql(spec, is_text)}")
    connection.execute("DROP TABLE typed")
    rows, bad = connection.execute("SELECT count(*), count(reason) FROM delivered").fetchall()[0]
    if rows == 0:
        raise InputError(f"{path}: rows are required and the file has none; nothing was landed")
    if bad > rows * spec.max_bad_share:
        raise InputError(_too_many_bad(connection, spec, path, rows, bad))
    _require_one_content(connection, spec, path)
    found = connection.execute(
        f"SELECT DISTINCT CAST({PARTITION_COLUMN} AS VARCHAR) FROM delivered WHERE reason IS NULL ORDER BY 1"
    ).fetchall()
    return Delivery(rows, bad, tuple(row[0] for row in found))


def versions_sql(spec: SourceSpec, landed: str) -> str:
    """SQL of the event versions that landed rows make: repeats of the same content are left out.

    `landed` is a relation with the source's columns, the partition day, `landing_order` and `position`.
    """
    columns = ", ".join(f'"{name}"' for name in [*columns_of(spec), PARTITION_COLUMN])
    content = ", ".join(f'"{name}"' for name in columns_of(spec) if name != CREATED_TIME)
    event_id = f'"{spec.event_id}"'
    return f"""
WITH repeated AS (
  SELECT {event_id} FROM {landed} GROUP BY {event_id} HAVING count(*) > 1
), ordered AS (
  SELECT {columns}, struct_pack({_packed(content)}) AS content,
         lag(content) OVER (PARTITION BY {event_id} ORDER BY {CREATED_TIME}, landing_order, position) AS before
  FROM {landed} SEMI JOIN repeated USING ({event_id})
)
SELECT {columns} FROM {landed} ANTI JOIN repeated USING ({event_id})
UNION ALL
SELECT {columns} FROM ordered WHERE content IS DISTINCT FROM before
ORDER BY {PARTITION_COLUMN}, {event_id}, {CREATED_TIME}"""


def conflicts_sql(spec: SourceSpec, landed: str) -> str:
    """SQL that counts delivered rows that contradict landed ones, by kind of contradiction.

    An id's event time never changes, and one (id, created) never has two contents.
    """
    event_id = f'"{spec.event_id}"'
    others = [c for c in columns_of(spec) if c not in (spec.event_id, CREATED_TIME, EVENT_TIME)]
    differs = " OR ".join(f'd."{c}" IS DISTINCT FROM l."{c}"' for c in others) or "false"
    return f"""
SELECT count_if(d.{EVENT_TIME} <> l.{EVENT_TIME}),
       count_if(d.{CREATED_TIME} = l.{CREATED_TIME} AND d.{EVENT_TIME} = l.{EVENT_TIME} AND ({differs})),
       min(d.{event_id}) FILTER (d.{EVENT_TIME} <> l.{EVENT_TIME}
                                 OR (d.{CREATED_TIME} = l.{CREATED_TIME} AND ({differs})))
FROM delivered d JOIN ({landed}) l USING ({event_id}) WHERE d.reason IS NULL"""


def _open(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[str, bool]:
    """A relation over the file with a `position` column, and whether all its values are text."""
    quoted = "'" + str(path).replace("'", "''") + "'"
    is_text = path.suffix.lower() in (".csv", ".gz", ".txt")
    reader = (
        f"read_csv({quoted}, all_varchar = true, header = true)" if is_text else f"read_parquet({quoted})"
    )
    relation = f"(SELECT *, row_number() OVER () - 1 AS position FROM {reader})"
    try:
        connection.execute(f"DESCRIBE SELECT * FROM {relation}")
    except duckdb.Error as err:
        wanted = "a CSV file with a header" if is_text else "a complete Parquet file"
        first_line = str(err).splitlines()[0]
        raise InputError(f"{path}: {wanted} is required; {first_line}. The file was refused whole") from err
    return relation, is_text


def _require_columns(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, raw: str, path: Path, *, is_text: bool
) -> None:
    found = {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {raw}").fetchall()}
    found.pop("position")
    wanted = spec.file_columns()
    missing = sorted(set(wanted.values()) - set(found))
    unknown = sorted(set(found) - set(wanted.values()) - set(spec.ignore))
    if missing or unknown:
        raise InputError(
            f"{path}: source {spec.name!r} requires columns {sorted(set(wanted.values()))}; "
            f"missing: {missing or 'none'}, unknown: {unknown or 'none'}. The file was refused whole; "
            f"map columns with `from:` or name what to leave out under `ignore:` in the declaration"
        )
    wrong = [
        f"{column} must be {spec.columns[name].type}, is {found[column]}"
        for name, column in wanted.items()
        if not is_text and not _accepts(spec.columns[name].type, found[column])
    ]
    if wrong:
        raise InputError(f"{path}: wrong column types: {'; '.join(wrong)}. The file was refused whole")


def _accepts(declared: str, found: str) -> bool:
    return found in _ACCEPTED[declared] or (declared == "double" and found.startswith("DECIMAL"))


def _typed_sql(spec: SourceSpec, raw: str, is_text: bool, known_at: str | None) -> str:
    columns = [
        f'{_cast(column.type, spec.file_columns()[name], is_text)} AS "{name}"'
        for name, column in spec.columns.items()
    ]
    unread = [
        f'("{file_column}" IS NOT NULL AND {_cast(spec.columns[name].type, file_column, True)} IS NULL)'
        f" AS unread_{name}"
        for name, file_column in spec.file_columns().items()
        if is_text
    ]
    return f"SELECT {', '.join(columns + unread)}, position, {_known_at(spec, known_at)} FROM {raw}"


def _known_at(spec: SourceSpec, known_at: str | None) -> str:
    """SQL of the time that the rows are declared to be known at, when no column says it."""
    if known_at is not None:
        return f"TIMESTAMPTZ '{known_at}' AS declared_created"
    time = spec.file_columns()[EVENT_TIME]
    shift = spec.arrival.microseconds
    return f'TRY_CAST("{time}" AS TIMESTAMPTZ) + to_microseconds({shift}) AS declared_created'


def _cast(kind: str, column: str, is_text: bool) -> str:
    quoted = f'"{column}"'
    if kind == "timestamp" and not is_text:
        # Nanoseconds round up to the microsecond, so that a row is never seen before it happened.
        return f"(CAST({quoted} AS TIMESTAMPTZ) + to_microseconds(CAST(epoch_ns({quoted}) % 1000 > 0 AS BIGINT)))"
    return f"TRY_CAST({quoted} AS {DUCKDB_TYPES[kind]})"


def _reasons_sql(spec: SourceSpec, is_text: bool) -> str:
    known = set(spec.columns)
    reasons = [reason for name, column in spec.columns.items() for reason in _row_rules(name, column, spec)]
    if is_text:
        reasons += [
            f"CASE WHEN unread_{n} THEN '{n} cannot be read' END"
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
    created = CREATED_TIME if CREATED_TIME in known else "declared_created"
    columns = ", ".join(f'"{name}"' for name in spec.columns if name != CREATED_TIME)
    return f"""
SELECT {columns}, {created} AS {CREATED_TIME}, CAST({EVENT_TIME} AS DATE) AS {PARTITION_COLUMN}, position,
       nullif(concat_ws('; ', {", ".join(reasons)}), '') AS reason
FROM typed"""


def _row_rules(name: str, column: SourceColumn, spec: SourceSpec) -> list[str]:
    """SQL of the reasons for which one column makes a row bad."""
    quoted = f'"{name}"'
    required = not column.nullable or name in (spec.event_id, EVENT_TIME)
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
        "SELECT reason, count(*), min(position) FROM delivered WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 3"
    ).fetchall()
    examples = "; ".join(f"{reason} ({count} rows, first at {first})" for reason, count, first in top)
    return (
        f"{path}: at most {spec.max_bad_share:.1%} bad rows are allowed; {bad:,} of {rows:,} are bad: {examples}. "
        f"The file was refused whole; mend it, or raise `max_bad_share` of source {spec.name!r}"
    )


def _require_one_content(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, path: Path) -> None:
    event_id = f'"{spec.event_id}"'
    content = ", ".join(f'"{name}"' for name in columns_of(spec))
    found = connection.execute(
        f"SELECT min({event_id}), count(*) FROM (SELECT {event_id} FROM delivered WHERE reason IS NULL "
        f"GROUP BY {event_id}, {CREATED_TIME} HAVING count(*) > 1 AND count(DISTINCT hash({content})) > 1)"
    ).fetchall()[0]
    if found[1]:
        raise InputError(
            f"{path}: one content per ({spec.event_id}, created) is required; {found[1]} have several, such as "
            f"{spec.event_id} {found[0]}. The file was refused whole; give corrections a later created time"
        )


def _packed(columns: str) -> str:
    return ", ".join(f"{name} := {name}" for name in columns.split(", "))


def days_text(days: Sequence[str]) -> str:
    """First and last day of a delivery, for people."""
    return days[0] if len(days) == 1 else f"{days[0]} … {days[-1]} ({len(days)} days)"


def latest_versions_sql(spec: SourceSpec, relation: str, *, known_by: str | None = None) -> str:
    """SQL of the latest version of each event that was known by a time.

    `known_by` is a UTC time as text; by default each event as known when its own day was complete.
    """
    event_id = f'"{spec.event_id}"'
    day_end = f"CAST({PARTITION_COLUMN} AS TIMESTAMPTZ) + INTERVAL 1 DAY"
    known = f"{CREATED_TIME} <= " + (f"TIMESTAMPTZ '{known_by}'" if known_by else day_end)
    return f"""
WITH known AS (SELECT * FROM ({relation}) WHERE {known}),
repeated AS (SELECT {event_id} FROM known GROUP BY {event_id} HAVING count(*) > 1)
SELECT * FROM known ANTI JOIN repeated USING ({event_id})
UNION ALL
SELECT * FROM known SEMI JOIN repeated USING ({event_id})
QUALIFY row_number() OVER (PARTITION BY {event_id} ORDER BY {CREATED_TIME} DESC) = 1"""
