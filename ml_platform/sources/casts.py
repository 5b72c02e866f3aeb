"""How a value of a delivered file becomes a value of the lake, as SQL.

Apart from the work on whole files in `delivery.py` because each rule here is about one value: nothing is
rounded, shifted or guessed without being said, and what cannot be read is null.
"""

from ml_platform.lake.schemas import ENGINE_TYPES
from ml_platform.sources.spec import ColumnType

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_TIMES = {
    "TIMESTAMP",
    "TIMESTAMP_S",
    "TIMESTAMP_MS",
    "TIMESTAMP_NS",
    "TIMESTAMPTZ_NS",
    "TIMESTAMP WITH TIME ZONE",
}
_ACCEPTED: dict[str, set[str]] = {
    "int64": _INTEGERS,
    "int32": _INTEGERS - {"BIGINT", "UINTEGER"},
    "double": {"DOUBLE", "FLOAT", *_INTEGERS},
    "float": {"FLOAT"},
    "string": {"VARCHAR"},
    "boolean": {"BOOLEAN"},
    "timestamp": {"DATE", *_TIMES},
}
_FIRST_TIME, _LAST_TIME = "0001-01-01", "9999-12-31 23:59:59.999999"  # Python and Delta know no others


def accepts(declared: str, found: str) -> bool:
    """May a column of this DuckDB type be taken for the declared type without losing anything?"""
    return found in _ACCEPTED[declared] or (declared == "double" and found.startswith("DECIMAL"))


def value_sql(kind: ColumnType, column: str, *, found: str | None) -> str:
    """SQL of a file column's value in the lake's type; null where there is none, and NaN is none.

    `found` is the column's DuckDB type in the file, or None for text that has yet to be parsed.
    """
    if found is None:
        value = parsed_sql(kind, column)
    elif kind == "timestamp":
        finer = found in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS")  # casts of these round to the nearest microsecond
        rounded = f'1000 * epoch_us(TRY_CAST("{column}" AS TIMESTAMPTZ))'
        value = _time_sql(f'"{column}"', round_up=f'epoch_ns("{column}") > {rounded}' if finer else "false")
    else:
        value = f'CAST("{column}" AS {ENGINE_TYPES[kind]})'
    return f"CASE WHEN NOT isnan({value}) THEN {value} END" if kind in ("double", "float") else value


def parsed_sql(kind: ColumnType, column: str) -> str:
    """SQL of what a text column says; null where it does not say exactly one value of the type."""
    quoted = f'"{column}"'
    if kind == "timestamp":
        return _time_sql(quoted, round_up=rf"regexp_matches({quoted}, '\.\d{{6}}\d*[1-9]')")
    value = f"TRY_CAST({quoted} AS {ENGINE_TYPES[kind]})"
    if kind in ("int64", "int32"):  # DuckDB would round 1.5 to 2
        return rf"CASE WHEN regexp_full_match(trim({quoted}), '[+-]?\d+(\.0*)?') THEN {value} END"
    return value


def _time_sql(value: str, *, round_up: str) -> str:
    """SQL of a time, rounded up to the microsecond so that no row is seen before it happened."""
    time = f"TRY_CAST({value} AS TIMESTAMPTZ)"
    return (
        f"CASE WHEN {time} BETWEEN TIMESTAMPTZ '{_FIRST_TIME}' AND TIMESTAMPTZ '{_LAST_TIME}' "
        f"THEN {time} + to_microseconds(CAST({round_up} AS BIGINT)) END"
    )
