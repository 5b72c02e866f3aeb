"""Programs that are no Python packages of this project; a test that needs one fails where it is missing."""

import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

OWN = Path(sys.prefix) / "tools" / "bin"
"""Where `make tools` puts them: beside the packages, and gone with them."""


def program(*names: str) -> str:
    """The path of the first of these programs that is here; the test fails where none is."""
    places = [str(OWN), str(Path(sys.executable).parent), None]
    found = [path for name in names for place in places if (path := shutil.which(name, path=place))]
    return found[0] if found else _missing(" or ".join(names))


def packages(name: str) -> Path:
    """The folder of a Python package among the tools, to be read; the test fails where it is missing."""
    found = list(OWN.parent.glob(f"lib/python*/site-packages/{name}"))
    return found[0] if found else _missing(name)


def _missing(what: str) -> NoReturn:
    pytest.fail(f"{what} is required and not on this machine: `make tools` installs it", pytrace=False)
