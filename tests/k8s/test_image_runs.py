"""What the Dockerfile copies is enough: the platform runs from a copy of it, as the image's user."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.test_image import DOCKERFILE
from tests.k8s.tools import program

USER = 10001
Run = Callable[..., subprocess.CompletedProcess[str]]


def as_the_images_user() -> list[str]:
    """For root, whose home Python itself may lie in: reads what root may read, and writes as the image's user."""
    if os.geteuid() != 0:
        return []
    keep = "-all,+dac_read_search"
    sets = [f"--{name}={keep}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    identity = ["--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--no-new-privs"]
    return [program("setpriv"), *identity, *sets]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in the copy, which nobody may write to, with an empty home."""
    folder = tmp_path_factory.mktemp("image")
    copy, home = folder / "opt", folder / "home"
    home.mkdir()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in map(Path, sources.split()):
            here = PROJECT_ROOT / source
            copied = shutil.copytree if here.is_dir() else shutil.copy2
            (copy / source).parent.mkdir(parents=True, exist_ok=True)
            copied(here, copy / source)
    if os.geteuid() == 0:
        shutil.chown(home, USER, USER)
    else:
        subprocess.run(["chmod", "-R", "a-w", str(copy)], check=True)

    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_the_images_user(), *words],
            cwd=copy,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(copy),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HOME": str(home),
                "ML_PLATFORM_HOME": str(home),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    yield command
    subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)


def test_it_may_not_write_beside_what_was_copied(run: Run) -> None:
    assert run("touch", "ml_platform/x").returncode != 0
    assert run("sh", "-c", 'touch "$HOME/x"').returncode == 0


def test_the_code_location_loads_all_that_is_declared(run: Run) -> None:
    script = (
        "from ml_platform import definitions;"
        "print(definitions.__file__);"
        "print(len(list(definitions.defs().resolve_all_asset_specs())))"
    )
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    where, assets = done.stdout.split()
    assert not where.startswith(str(PROJECT_ROOT))
    assert int(assets) > 10


def test_the_platforms_command_finds_the_declarations(run: Run) -> None:
    script = "from ml_platform.cli.main import app; app(['features', 'sql', 'customer_spending'])"
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    assert "SELECT" in done.stdout
