"""The compute engine: one in-memory DuckDB database of a process, which spills to disk past its limit.

Opening a database takes longer than a day's smaller questions, and what it has once taken of memory it need not take
again. So every step of a process has a connection of its own to the same one, with temporary tables of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import duckdb

from ml_platform.kernel.settings import Settings
from ml_platform.lake import object_store


@contextmanager
def connect(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in UTC with the declared memory limit; closed at the end of the block.

    Make temporary tables and views only: others would stay, and be met by every step of the process after this one.
    """
    limits = {"memory_limit": settings.memory_limit, "temp_directory": settings.spill_folder}
    with _connected(**limits, threads=settings.threads or None) as connection:
        yield connection


def database(**limits: object) -> duckdb.DuckDBPyConnection:
    """A new in-memory database whose zone is UTC, also in cursors; a limit of None is DuckDB's own.

    It reads files of this machine and of an object store.
    """
    config = {name: str(value) for name, value in limits.items() if value is not None}
    connection = duckdb.connect(":memory:", config=dict(config))
    object_store.register(connection)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


@contextmanager
def small_questions() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in UTC for what needs little memory, for who has no settings at hand; temporary tables only."""
    with _connected() as connection:
        yield connection


def small_answer(query: str) -> list[tuple[Any, ...]]:
    """The answer to a question that needs little memory, for who has no settings at hand; times are UTC."""
    with small_questions() as connection:
        return connection.execute(query).fetchall()


@contextmanager
def _connected(**limits: object) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the database with such limits; one that broke is left to those who have it already."""
    with _of_this_process(**limits).cursor() as connection:
        try:
            yield connection
        except (duckdb.FatalException, duckdb.InternalException):
            _of_this_process.cache_clear()
            raise


@lru_cache(maxsize=2)
def _of_this_process(**limits: object) -> duckdb.DuckDBPyConnection:
    """What it reads of files it forgets, so that it holds no memory between steps.

    Two are kept: a process has one with the limits of its settings, and one for small questions.
    """
    return database(**limits, enable_external_file_cache=False)
