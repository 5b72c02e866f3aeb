"""What the Dockerfile copies is enough: the platform runs from a copy of it, as the image's user."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.image import as_its_user, copy_to, give

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in the copy, which nobody may write to, with an empty home."""
    folder = tmp_path_factory.mktemp("image")
    copy, home = copy_to(folder / "opt"), give(folder / "home")

    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_its_user(), *words],
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
