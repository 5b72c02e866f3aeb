"""Documents whose commands are run: what a page shows is what happens, block by block, as a reader would do it.

A page is Markdown. Of its fenced blocks, `console` and `bash` are commands for a shell, `diff` is applied by git, and a
`text` block is what the commands before it print. A comment before a block says what differs:

    <!-- not run: needs a cluster -->     the block is not run here, and why
    <!-- exits with 1 -->                 its last command refuses
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ml_platform.kernel.settings import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
TIMEOUT = 560
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]+) -->\n+)?^(?P<indent> *)```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_SHELL = ("console", "bash")
_MASKED = [
    (r"run [0-9a-f]{8}", "run …"),
    (r"\d+\.\d s\b", "… s"),
    (r"[\d,]+ MB", "… MB"),
    (r"[─│┌┐└┘ \n]+", " "),
]


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, and the comment before it."""

    kind: str
    text: str
    note: str = ""

    @property
    def not_run(self) -> str | None:
        """Why it is not run; None for one that is."""
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else None

    @property
    def exit_code(self) -> int:
        """What its last command ends with."""
        return int(self.note.removeprefix("exits with ")) if self.note.startswith("exits with ") else 0

    @property
    def script(self) -> str:
        """Its commands, as bash takes them; empty where it is none for a shell."""
        if self.kind == "diff":
            return f"git apply --verbose - <<'END_OF_DIFF'\n{self.text}END_OF_DIFF\n"
        if self.kind == "bash":
            return self.text
        if self.kind != "console":
            return ""
        return "".join(re.findall(r"^\$ ((?:.*\\\n)*.*\n?)", self.text, re.MULTILINE))


def fenced(text: str, kind: str) -> list[str]:
    """What the fenced blocks of one kind in a Markdown text have in them, indented as they are, in order."""
    return [found["text"] for found in _BLOCK.finditer(text) if found["kind"] == kind]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(found["kind"], textwrap.dedent(found["text"]), found["note"] or "")
        for found in _BLOCK.finditer(page.read_text())
    ]


def shell_blocks(page: Path) -> list[Block]:
    """Those of them that are commands."""
    return [block for block in blocks(page) if block.kind in _SHELL]


def run(
    command: str, folder: Path, home: str = ".ml_platform", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run commands in a folder, in a terminal of the README's width, with the home there."""
    environment = {**os.environ, "ML_PLATFORM_HOME": str(folder / home), "COLUMNS": "120", **variables}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def masked(text: str) -> str:
    """Text without what differs from run to run: run ids, seconds, memory, and how a table is drawn."""
    for pattern, instead in _MASKED:
        text = re.sub(pattern, instead, text)
    return text.strip()


def checkout(folder: Path) -> Path:
    """A copy of what this checkout declares and runs, to be edited, with the installed environment of this process."""
    for name in ("ml_platform", "feature_repo"):
        shutil.copytree(PROJECT_ROOT / name, folder / name)
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy2(PROJECT_ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def follow(page: Path, folder: Path) -> dict[str, float]:
    """Do what a page says, in its order, in one folder; what a block exports, the next ones have.

    Gives back the seconds that each block took, by its commands.

    AssertionError where a command ends otherwise than the page says, or prints other than what it shows.
    """
    took: dict[str, float] = {}
    printed, kept = "", folder / ".exported"
    kept.touch()
    # The copy's own code is run, and not the one that the environment was installed from.
    variables = {"PYTHONPATH": str(folder), "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}"}
    for block in blocks(page):
        if block.kind == "text":
            for line in _shown(block.text):
                assert line in printed, f"{page.name} shows {line!r}; what was printed is {printed!r}"
        elif block.script and block.not_run is None:
            started = time.perf_counter()
            done = run(
                f"set -eu; source {kept}; {{ {block.script}\n}}; export -p > {kept}", folder, **variables
            )
            said = done.stdout + done.stderr
            assert done.returncode == block.exit_code, f"{page.name}: {block.script}\n{said}"
            printed = masked(said)
            took[block.script] = time.perf_counter() - started
    return took


def _shown(text: str) -> Iterator[str]:
    """The lines that a page shows, without those that it leaves out."""
    for line in text.splitlines():
        if line.strip() not in ("", "…"):
            yield masked(line)
