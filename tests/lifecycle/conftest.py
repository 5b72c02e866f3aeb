"""One Dagster instance on disk for all lifecycle tests: opening one costs more than most of them."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import dagster as dg
import pytest

from ml_platform.cli.throw_away import no_waiting_for_the_disk
from ml_platform.kernel.settings import Settings
from tests.built import platform
from tests.lifecycle.toys import Toys
from tests.lifecycle.worlds import Undisturbed, World, undisturbed_world

__all__ = ["platform"]
_numbers = count(1)


@pytest.fixture(scope="session")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance whose event log other tests have written to as well; use keys of your own."""
    with (
        no_waiting_for_the_disk(),
        dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance,
    ):
        yield instance


@pytest.fixture
def toys(shared_instance: dg.DagsterInstance) -> Toys:
    """The toy graph under keys that no other test has."""
    return Toys(shared_instance, f"toys{next(_numbers)}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world of the test's own, whose view nobody has made yet."""
    return World(Settings.model_validate({"home": tmp_path / "home"})).begin()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What the same world becomes where nobody disturbs it."""
    return undisturbed_world(Settings.model_validate({"home": tmp_path_factory.mktemp("undisturbed")}))
