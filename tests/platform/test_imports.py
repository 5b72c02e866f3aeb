"""What loading costs: definitions and declarations come without the libraries that take seconds to import."""

import subprocess
import sys
import tomllib

import pytest

from ml_platform.kernel.settings import PROJECT_ROOT


def fenced() -> list[str]:
    """The libraries that the linter keeps from being imported when a module is."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    return project["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]


def imported_by(statement: str, *, of: list[str]) -> list[str]:
    """Which of some packages a fresh process has imported after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted(set({of!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_fence_names_the_libraries_that_take_seconds() -> None:
    assert {"feast", "mlflow", "whylogs", "sklearn", "onnxruntime"} <= set(fenced())


def test_all_definitions_load_without_a_fenced_library() -> None:
    load = "from ml_platform.definitions import defs\ndefs().resolve_all_asset_specs()"
    assert imported_by(load, of=[*fenced(), "dagster"]) == ["dagster"]


def test_declarations_are_read_without_dagster_or_a_fenced_library() -> None:
    load = "from ml_platform import declarations\ndeclarations.load().lineage"
    assert imported_by(load, of=[*fenced(), "dagster"]) == []


@pytest.mark.parametrize("name", ["feast", "sklearn"])
def test_the_measurement_sees_an_import(name: str) -> None:
    assert imported_by(f"import importlib.util, types\nsys.modules[{name!r}] = types", of=fenced()) == [name]
