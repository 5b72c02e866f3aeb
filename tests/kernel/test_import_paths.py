"""An import path is judged from files, and the judgement is that of a real import."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.import_paths import require_importable

MODULES = ("collections", "dataclasses", "json", "pathlib", "sklearn.ensemble", "sklearn.pipeline", "yaml")


def classes(module: str) -> list[str]:
    """What a real import finds."""
    return [name for name, value in vars(importlib.import_module(module)).items() if inspect.isclass(value)]


@pytest.mark.parametrize("module", MODULES)
def test_every_class_that_an_import_finds_is_accepted(module: str) -> None:
    paths = [f"{module}.{name}" for name in classes(module)]
    assert [require_importable(path) for path in paths] == paths
    assert paths


@given(st.from_regex(r"[a-z]{1,9}", fullmatch=True))
def test_a_name_is_accepted_only_where_an_import_finds_it(name: str) -> None:
    found = hasattr(importlib.import_module("dataclasses"), name)
    if found:
        assert require_importable(f"dataclasses.{name}")
    else:
        with pytest.raises(ValueError, match=f"dataclasses has no '{name}'"):
            require_importable(f"dataclasses.{name}")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("RandomForestClassifier", r"a path such as package\.module\.Name is required; got 'RandomFor"),
        ("sklearn..RandomForestClassifier", r"a path such as package\.module\.Name is required"),
        ("sklern.ensemble.RandomForestClassifier", "an installed package is required; there is no 'sklern'"),
        (
            "sklearn.ensembl.RandomForestClassifier",
            r"sklearn has no module 'ensembl'; did you mean ensemble\?",
        ),
        (
            "sklearn.ensemble.RandomForest",
            "sklearn.ensemble has no 'RandomForest'; did you mean RandomForest",
        ),
        ("pathlib.Zzz", "pathlib has no 'Zzz'; it has: .*PurePath"),
    ],
)
def test_what_is_not_there_is_refused_with_near_names(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_importable(path)


@pytest.mark.parametrize("path", ["math.sqrt", "os.path.join", "sklearn.Anything"])
def test_what_source_cannot_tell_is_left_to_the_import(path: str) -> None:
    assert require_importable(path) == path


def test_names_that_a_module_makes_up_are_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "generous.py").write_text("def __getattr__(name): return name\n")
    (tmp_path / "starry.py").write_text("from os import *\n")
    (tmp_path / "guarded.py").write_text(
        "try:\n    import one as Found\nexcept ImportError:\n    Found = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert [require_importable(f"{m}.Found") for m in ("generous", "starry", "guarded")]
    with pytest.raises(ValueError, match=r"guarded has no 'Lost'; it has: Found"):
        require_importable("guarded.Lost")


def test_judging_imports_nothing() -> None:
    code = (
        "import sys; from ml_platform.kernel.import_paths import require_importable as judge; "
        "judge('sklearn.ensemble.RandomForestClassifier'); print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
