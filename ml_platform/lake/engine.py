"""The compute engine: a DuckDB connection per step, to one in-memory database of the process, which spills to disk."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import duckdb

from ml_platform.kernel.settings import Settings


@contextmanager
def connect(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in UTC with the declared memory limit; closed at the end of the block.

    Its temporary tables and views are its own; the limit is that of all connections of the process together.
    """
    limits = {"memory_limit": settings.memory_limit, "temp_directory": str(settings.spill_folder)}
    if settings.threads:
        limits["threads"] = str(settings.threads)
    with _connection(**limits) as connection:
        yield connection


def small_answer(query: str) -> list[tuple[Any, ...]]:
    """The answer to a question that needs little memory, for who has no settings at hand; times are UTC."""
    with _connection() as connection:
        return connection.execute(query).fetchall()


@contextmanager
def _connection(**limits: str) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = _database(os.getpid(), **limits).cursor()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


@lru_cache(maxsize=4)
def _database(_process: int, **limits: str) -> duckdb.DuckDBPyConnection:
    """The database of a process, opened once: that takes longer than a small query. A fork needs one of its own."""
    return duckdb.connect(":memory:", config=dict(limits))


atexit.register(_database.cache_clear)  # nothing of the engine is left when the interpreter ends
