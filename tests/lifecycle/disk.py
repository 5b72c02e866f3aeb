"""SQLite that does not wait for the disk: for files that outlive their process, and need not outlive a power cut."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa


@contextmanager
def no_waiting_for_the_disk() -> Iterator[None]:
    """Waiting would be most of the time of tests that only look at what Dagster wrote."""

    def do_not_wait(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    sa.event.listen(sa.Engine, "connect", do_not_wait)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "connect", do_not_wait)
