"""A platform with three champions, one after the other, that tests go back and on from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.built import Platform, opened_copy, platform, shared
from tests.releases.test_releases import MODEL, RELEASE, declared, released
from tests.support import LAST_DAY, copied_home

__all__ = ["platform", "shared"]


@pytest.fixture(scope="session")
def three_champions_once(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home that is copied: versions 2 and 3 are like version 1, with other seeds."""
    with opened_copy(built_once) as found:
        for seed in (2, 3):
            other = declared(parameters={"max_iter": 30, "max_features": 0.5, "random_state": seed})
            found.make(MODEL, LAST_DAY, changed=[other])
            found.make(RELEASE, changed=[released(margin=1.0)])
        yield copied_home(found.settings.root)


@pytest.fixture
def champions(three_champions_once: Path) -> Iterator[Platform]:
    """Version 3 is champion, after 1 and 2; the test's own."""
    with opened_copy(three_champions_once) as found:
        yield found


@pytest.fixture(scope="module")
def unmoved(three_champions_once: Path) -> Iterator[Platform]:
    """The same, for tests of a module in which nobody moves the champion."""
    with opened_copy(three_champions_once) as found:
        yield found
