"""The commands of docs/operations.md, as people run them."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.documents import fenced
from tests.postgres_server import with_programs

OPERATIONS = (PROJECT_ROOT / "docs" / "operations.md").read_text()


def documented(section: str) -> str:
    """The commands that a section of the document shows for a shell; AssertionError unless it has one block of them."""
    (text,) = re.findall(rf"^##+ {section}\n(.*?)(?=^##+ |\Z)", OPERATIONS, re.DOTALL | re.MULTILINE)
    (commands,) = fenced(text, "bash")
    return textwrap.dedent(commands)


def tried(section: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The commands of a section, run in a folder with this process's variables; whether they work is not asked."""
    variables = with_programs()
    path = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    return subprocess.run(
        ["bash", "-euc", documented(section)],
        cwd=folder,
        env={**variables, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def run_documented(section: str, folder: Path) -> str:
    """The same, where nothing may go wrong; what they print."""
    done = tried(section, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
