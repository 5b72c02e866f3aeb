"""Column types: how the engine calls those that are declared, and how columns differ from what is declared."""

from collections.abc import Callable, Mapping

import duckdb

from ml_platform.lake.dialect import quoted

ENGINE_TYPES: Mapping[str, str] = {
    "int64": "BIGINT",
    "int32": "INTEGER",
    "double": "DOUBLE",
    "float": "FLOAT",
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "date": "DATE",
}
"""By declared type, as the engine itself says it."""


def columns_of(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """The columns that a query returns with their types in the engine; no row is read."""
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}


def differences(
    found: Mapping[str, str],
    declared: Mapping[str, str],
    *,
    accepts: Callable[[str, str], bool] | None = None,
) -> list[str]:
    """In what columns of the engine differ from declared ones; empty when in nothing.

    A column is as declared if it has exactly the declared type, or one that `accepts` takes for it.
    """
    accepts = accepts or (lambda kind, type_: ENGINE_TYPES[kind] == type_)
    missing = [f"{name} is missing" for name in declared if name not in found]
    unknown = [f"{name} is not declared" for name in found if name not in declared]
    others = [
        f"{name} is {type_}, declared as {declared[name]}"
        for name, type_ in found.items()
        if name in declared and not accepts(declared[name], type_)
    ]
    return [*missing, *unknown, *others]


def typed_nulls(columns: Mapping[str, str]) -> str:
    """SQL of one row without values, in columns of the engine's types."""
    listed = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in columns.items())
    return f"SELECT {listed}"
