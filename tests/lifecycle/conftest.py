"""One Dagster instance on disk for all lifecycle tests: opening one costs more than most of them."""

import sqlite3
from collections.abc import Iterator
from itertools import count
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from tests.lifecycle.toys import Toys

_numbers = count(1)


@pytest.fixture(scope="session")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance whose event log other tests have written to as well; use keys of your own.

    Its files need not survive a power cut: waiting for the disk would be most of the time of these tests.
    """
    sa.event.listen(sa.Engine, "connect", _do_not_wait_for_the_disk)
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance
    sa.event.remove(sa.Engine, "connect", _do_not_wait_for_the_disk)


@pytest.fixture
def toys(shared_instance: dg.DagsterInstance) -> Toys:
    """The toy graph under keys that no other test has."""
    return Toys(shared_instance, f"toys{next(_numbers)}")


def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
