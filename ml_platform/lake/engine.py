"""The compute engine: one in-memory DuckDB connection per step, which spills to disk past its limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from ml_platform.kernel.settings import Settings


@contextmanager
def connect(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in UTC with the declared memory limit; closed at the end of the block."""
    limits = {"memory_limit": settings.memory_limit, "temp_directory": str(settings.spill_folder)}
    if settings.threads:
        limits["threads"] = str(settings.threads)
    connection = duckdb.connect(":memory:", config=dict(limits))
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def small_answer(query: str) -> list[tuple[Any, ...]]:
    """The answer to a question that needs little memory, for who has no settings at hand; times are UTC."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()
