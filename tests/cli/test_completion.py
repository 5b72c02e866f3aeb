"""A shell completes what is declared, and does not wait for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform.kernel.settings import PROJECT_ROOT

HEAVY = {"dagster", "deltalake", "duckdb", "feast", "mlflow", "pandas", "pyarrow", "sqlglot"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("completion") / "home"


def complete(
    line: str, home: Path, *, shell: str = "bash", options: tuple[str, ...] = ()
) -> tuple[list[str], str]:
    """What a shell is told to complete a line with, as it asks; and what Python said beside it."""
    asked = {
        "_ML_PLATFORM_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "ML_PLATFORM_HOME": str(home),
        "PYTHONPATH": str(PROJECT_ROOT),
    }
    command = [sys.executable, *options, str(Path(sys.executable).with_name("ml-platform"))]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ml-platform gate status models/", ["models/demand", "models/fraud"]),
        ("ml-platform stale features/t", ["features/terminal_risk"]),
        ("ml-platform gate override drift_profiles/fraud 2018-10-02 --check ", ["drift"]),
        ("ml-platform ingest ", ["demand", "fraud_labels", "slots", "transactions"]),
        ("ml-platform features sql term", ["terminal_risk"]),
        ("ml-platform drift report ", ["demand", "fraud"]),
        ("ml-platform releases rollback ", ["demand", "fraud"]),
        ("ml-platform notifications test ", ["on_call"]),
        ("ml-platform models card ", ["demand", "fraud"]),
        ("ml-platform re", ["refused", "releases"]),
        ("ml-platform gate ov", ["override"]),
    ],
)
def test_what_is_declared_completes(home: Path, line: str, expected: list[str]) -> None:
    assert complete(line, home)[0] == expected


@pytest.mark.parametrize("line", ["ml-platform ", "ml-platform gate status ", "ml-platform stale "])
def test_nothing_that_takes_long_is_imported_for_it(home: Path, line: str) -> None:
    complete("ml-platform gate status ", home)  # declarations are read once
    found, said = complete(line, home, options=("-X", "importtime"))
    imported = {row.rpartition("|")[2].strip().partition(".")[0] for row in said.splitlines()}
    assert found
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_what_was_declared_since_completes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tmp_path / "shop" / "defs" / "online" / "registry" / "defs.yaml"
    declared.parent.mkdir(parents=True)
    text = "type: ml_platform.online.component.OnlineStore\nattributes: {name: NAME}\n"
    declared.write_text(text.replace("NAME", "first"))
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg.project]\nroot_module = "shop"\nregistry_modules = ["ml_platform.*.component"]\n'
    )
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    assert complete("ml-platform stale ", home)[0] == ["online/first"]
    declared.write_text(text.replace("NAME", "another"))
    assert complete("ml-platform stale ", home)[0] == ["online/another"]
    declared.write_text("type: ml_platform.online.component.OnlineStore\nattributes: {nmae: wrong}\n")
    assert complete("ml-platform stale ", home)[0] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_given_a_script(shell: str) -> None:
    command = [Path(sys.executable).with_name("ml-platform")]
    asked = {"_ML_PLATFORM_COMPLETE": f"source_{shell}", "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert f"complete_{shell}" in done.stdout
