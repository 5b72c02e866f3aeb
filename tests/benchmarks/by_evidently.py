"""The same days by Evidently, which runs in an environment of its own, because it wants other versions than ours.

The environment is made once, below `.ml_platform/benchmarks`, from the pinned file beside the script that it runs.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ml_platform.kernel.settings import PROJECT_ROOT

_FOLDER = Path(__file__).parent / "evidently"
_REQUIREMENTS = _FOLDER / "requirements.txt"


@dataclass(frozen=True)
class Question:
    """One day of a table, against days of another, in some columns."""

    day: str
    reference_days: Sequence[str]
    columns: Sequence[str]
    table: str
    reference: str
    whole: bool = False  # the whole preset with its report, as it is timed


def environment() -> Path:
    """The Python of the environment, made if it is not there; SystemExit when it cannot be made."""
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = PROJECT_ROOT / ".ml_platform" / "benchmarks" / f"evidently-{digest}"
    python = folder / "bin" / "python"
    if (folder / "installed").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    install = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "-r"]
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), *install, str(_REQUIREMENTS)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(
                f"Evidently's environment could not be made ({' '.join(command)}):\n{done.stderr}\n"
                "Measure without it: --without-evidently"
            )
    (folder / "installed").touch()
    return python


def version() -> str:
    """Which version is compared with."""
    pins = dict(line.split("==") for line in _REQUIREMENTS.read_text().split())
    return pins["evidently"]


class Evidently:
    """One process that has read the tables of a folder and answers questions about them."""

    def __init__(self, tables: Path) -> None:
        self._errors = (tables / f"errors-{id(self)}.txt").open("w+")
        self._process = subprocess.Popen(
            [str(environment()), str(_FOLDER / "judge.py"), str(tables)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "DO_NOT_TRACK": "1"},
        )
        self._read()

    def ask(self, question: Question) -> dict[str, Any]:
        """How many columns drifted, and how long it took to know."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(question)) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            sys.exit(f"Evidently's process ended:\n{self._errors.read()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its input, at which it ends
        self._errors.close()


def ask_all(tables: Path, questions: Sequence[Question]) -> list[int]:
    """How many columns drifted on each of many days, asked of as many processes as there are cores."""
    count = os.cpu_count() or 1
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        processes = [stack.enter_context(Evidently(tables)) for _ in range(count)]
        parts = pool.map(
            lambda n: [processes[n].ask(question)["drifted"] for question in questions[n::count]],
            range(count),
        )
        found = [0] * len(questions)
        for n, part in enumerate(parts):
            found[n::count] = part
    return found
