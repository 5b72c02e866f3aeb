"""`ml-platform init` writes a project that works, or nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.commands import invoke, words

BIN = Path(sys.executable).parent


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as somebody does who has this checkout's environment and no settings."""
    ours = ("ML_PLATFORM_", "DAGSTER_", "MAKE", "ARGS", "PYTEST_")
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**theirs, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A new project whose demo was made, and what the demo said."""
    folder = tmp_path_factory.mktemp("projects")
    done = run("ml-platform init parcel-watch", folder)
    assert done.returncode == 0, done.stderr
    project = folder / "parcel-watch"
    done = run(f"make demo PYTHON={sys.executable}", project)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done.stdout


def test_its_demo_makes_releases_and_says_what_was_made(made: tuple[Path, str]) -> None:
    project, said = made
    told = words(said)
    assert "32,000 in 40 daily partitions" in told
    assert "models/lateness [2025-02-10] is refused: 4 blocking check(s)" in told
    assert "models/lateness [2025-02-11] is refused: 1 blocking check(s)" in told
    assert "accepted: version 3 is champion" in told
    assert (project / ".ml_platform" / "lake").is_dir(), "its home is its own"
    assert not (project / ".venv").exists(), "the environment that was given is used"


def test_commands_find_its_declarations_from_any_folder_below_it(made: tuple[Path, str]) -> None:
    below = made[0] / "parcel_watch" / "defs" / "parcels"
    done = run("ml-platform releases list lateness --json", below)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["releases"][0]["champion"] == 3
    done = run("ml-platform gate status models/lateness --partition 2025-02-11", below)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_tests_pass(made: tuple[Path, str]) -> None:
    done = run(f"make test PYTHON={sys.executable}", made[0])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_its_code_is_as_ruff_writes_it(made: tuple[Path, str]) -> None:
    done = run("ruff format --check --isolated . && ruff check --isolated .", made[0])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_with_something_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "notes.md").write_text("mine")
    refused = invoke("init", str(folder))
    assert refused.exit_code == 1
    assert "a new or an empty folder is required" in words(refused.output)
    assert [path.name for path in tmp_path.rglob("*")] == ["shop", "notes.md"]


def test_an_empty_folder_becomes_the_project(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    done = invoke("init", str(tmp_path / "shop"), "--json")
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout.splitlines()[-1])["files"]
    assert {"Makefile", "pyproject.toml", "shop/definitions.py", "workspace.yaml"} <= set(files)
    assert all((tmp_path / "shop" / name).is_file() for name in files)


@pytest.mark.parametrize("name", ["2fast", "Shop", "class", "json", "numpy", "ml-platform", "my.shop"])
def test_a_name_that_no_package_may_have_is_refused(tmp_path: Path, name: str) -> None:
    refused = invoke("init", str(tmp_path / name))
    assert refused.exit_code == 1
    assert "a project name" in words(refused.output)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    result = invoke("init", str(tmp_path / "shop"))
    assert isinstance(result.exception, OSError)
    assert not list(tmp_path.iterdir())
