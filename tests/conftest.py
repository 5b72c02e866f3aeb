"""What every test may ask for. No test ever sees the repository's own home, or a setting of whoever runs it."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

from ml_platform.kernel.json_logs import JsonFormatter
from ml_platform.kernel.settings import Settings, settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

# A shared machine can stall for longer than any deadline; a property is about values, never about time.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

# Minutes each; begun first, so that one worker is not left alone with them at the end.
LONGEST = (
    "test_readme.py",
    "test_documents.py",
    "test_tutorial.py",
    "test_windows.py",
    "test_feature_repo.py",
    "test_ci.py",
    "test_drift_assets.py",
    "test_point_in_time.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of the browser take the documents' pictures."""
    parser.addoption("--pictures", help="folder that tests/browser write their pictures to")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True, scope="session")
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the settings of whoever runs the tests out, and their home safe."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ML_PLATFORM_", "DAGSTER_"))]:
            patch.delenv(name)
        _enter(tmp_path_factory.mktemp("nobodys"), patch)
        yield


@pytest.fixture(autouse=True)
def _nobodys_logging() -> Iterator[None]:
    """Give back how this process logs: a command that a test ran in it may have turned logs, and warnings, to JSON."""
    root, ours = logging.getLogger(), logging.getLogger("ml_platform")
    levels = root.level, ours.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = [
        handler for handler in root.handlers if not isinstance(handler.formatter, JsonFormatter)
    ]
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty platform home with its Dagster instance file, and the settings that this process now has."""
    from ml_platform.cli.instance import prepare_home

    found = _enter(tmp_path / "home", monkeypatch)
    prepare_home(found)
    return found


@pytest.fixture
def instance(home: Settings) -> "Iterator[DagsterInstance]":
    """The Dagster instance of the empty home."""
    yield from _opened(home)


@pytest.fixture
def built_home(built_once: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A private copy of a small platform with everything materialized up to a release (see tests/support.py)."""
    from tests.support import copied_home

    copy = copied_home(built_once)
    yield _enter(copy, monkeypatch)
    shutil.rmtree(copy)


@pytest.fixture
def built_instance(built_home: Settings) -> "Iterator[DagsterInstance]":
    """The Dagster instance of the private copy, with the events of how it was built."""
    yield from _opened(built_home)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that is copied: built by the first worker that needs it, while others wait."""
    from tests.support import build_platform

    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    homes = shared / "homes"
    homes.mkdir(exist_ok=True)
    with FileLock(homes / "lock"):
        finished = homes / "finished"
        if not finished.exists():
            unfinished = homes / "original"
            shutil.rmtree(unfinished, ignore_errors=True)
            with pytest.MonkeyPatch.context() as patch:
                build_platform(_enter(unfinished, patch))
            finished.touch()
    return homes / "original"


def _enter(root: Path, patch: pytest.MonkeyPatch) -> Settings:
    patch.setenv("ML_PLATFORM_HOME", str(root))
    found = settings().prepare()
    patch.setenv("DAGSTER_HOME", str(found.dagster_home))
    return found


def _opened(here: Settings) -> "Iterator[DagsterInstance]":
    from ml_platform.cli.instance import open_instance

    with open_instance(here) as opened:
        yield opened
