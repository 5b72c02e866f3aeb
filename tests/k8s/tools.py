"""Programs that are no Python packages of this project; a test that needs one fails where it is missing."""

import shutil
import sys
from pathlib import Path

import pytest

OWN = Path(sys.prefix) / "tools" / "bin"
"""Where `make tools` puts them: beside the packages, and gone with them."""


def program(*names: str) -> str:
    """The path of the first of these programs that is here; the test fails where none is."""
    places = [str(OWN), str(Path(sys.executable).parent), None]
    found = [path for name in names for place in places if (path := shutil.which(name, path=place))]
    if not found:
        pytest.fail(
            f"{' or '.join(names)} is required and not on this machine: `make tools` installs it",
            pytrace=False,
        )
    return found[0]
