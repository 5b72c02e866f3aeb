"""The compute engine: one in-memory DuckDB connection per step, which spills to disk past its limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import duckdb

from ml_platform.kernel.settings import Settings


@contextmanager
def connect(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in UTC with the declared memory limit; closed at the end of the block."""
    limits = {"memory_limit": settings.memory_limit, "temp_directory": settings.spill_folder}
    with database(**limits, threads=settings.threads or None) as connection:
        yield connection


def database(**limits: object) -> duckdb.DuckDBPyConnection:
    """A new in-memory database whose zone is UTC, also in cursors; a limit of None is DuckDB's own."""
    config = {name: str(value) for name, value in limits.items() if value is not None}
    connection = duckdb.connect(":memory:", config=dict(config))
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def small_answer(query: str) -> list[tuple[Any, ...]]:
    """The answer to a question that needs little memory, for who has no settings at hand; times are UTC.

    All of a process are asked of one database: opening one takes longer than most answers.
    """
    with _of_this_process().cursor() as connection:
        return connection.execute(query).fetchall()


@cache
def _of_this_process() -> duckdb.DuckDBPyConnection:
    """What it reads it forgets, so that it holds no memory between questions."""
    return database(enable_external_file_cache=False)
