"""A home that is there for one command and gone after it, whatever the environment says of other places."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from ml_platform.cli.instance import prepare_home
from ml_platform.kernel.settings import Settings, settings

_LIMITS = frozenset({"ML_PLATFORM_MEMORY_LIMIT", "ML_PLATFORM_THREADS"})
_PLACES = ("DAGSTER_", "ML_PLATFORM_", "MLFLOW_")


@dataclass
class ThrowAwayHome:
    """An empty home; set `keep` to leave it where it is."""

    settings: Settings
    keep: bool = False


@contextmanager
def throw_away_home() -> Iterator[ThrowAwayHome]:
    """A home in a temporary folder: declared limits hold, and every other place of the environment is forgotten.

    At the end the environment is as it was.
    """
    folder = Path(tempfile.mkdtemp(prefix="ml-platform-ci-"))
    before = dict(os.environ)
    home = None
    try:
        for name in [name for name in before if name.startswith(_PLACES) and name not in _LIMITS]:
            del os.environ[name]
        os.environ["ML_PLATFORM_HOME"] = str(folder)
        home = ThrowAwayHome(settings())
        prepare_home(home.settings)
        with no_waiting_for_the_disk():
            yield home
    finally:
        os.environ.clear()
        os.environ.update(before)
        if home is None or not home.keep:
            shutil.rmtree(folder)


@contextmanager
def no_waiting_for_the_disk() -> Iterator[None]:
    """SQLite for files that outlive their process and need not outlive a power cut: waiting is most of its time."""

    def do_not_wait(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", do_not_wait)
    try:
        yield
    finally:
        event.remove(Engine, "connect", do_not_wait)
