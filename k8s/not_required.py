"""Prints the installed distributions that the project does not require: what an image is made without.

A lock of everything has no word of who asked for what; the metadata of what is installed has.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions

from packaging.requirements import Requirement

PROJECT = "ml-platform"


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a distribution requires here, with the extras that somebody asked it for."""
    for text in distribution(name).requires or ():
        required = Requirement(text)
        if required.marker is None or any(required.marker.evaluate({"extra": e}) for e in extras | {""}):
            yield required


def required(project: str = PROJECT) -> set[str]:
    """The project and everything that it requires, directly or not; LookupError for what is missing."""
    wanted = [(canonical(project), frozenset[str]())]
    seen = set(wanted)
    while wanted:
        name, extras = wanted.pop()
        try:
            found = {(canonical(r.name), frozenset(r.extras)) for r in requirements(name, extras)}
        except PackageNotFoundError:
            raise LookupError(
                f"{name} is required and not installed; the lock is not of this pyproject"
            ) from None
        wanted += found - seen
        seen |= found
    return {name for name, _ in seen}


def not_required() -> list[str]:
    """Names of installed distributions that the project can do without."""
    return sorted({canonical(d.name) for d in distributions()} - required())


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}\n" for name in not_required())
