"""The notebook of the documents is what comes out when somebody runs it on the small home of the tests."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.built import Platform

NOTEBOOK = PROJECT_ROOT / "docs" / "notebook.ipynb"


@pytest.fixture
def executed(shared: Platform, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook, run again from its first cell, without tqdm's advice about widgets, which names a path."""
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")
    found = nbformat.read(NOTEBOOK, as_version=4)
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(found, timeout=300, kernel_name="python3", record_timing=False).execute()
    return found


def shown(notebook: Any) -> list[tuple[str, list[str]]]:
    """What each code cell has under it, as text."""
    return [
        (cell.source, [text_of(output) for output in cell.outputs])
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def text_of(output: Any) -> str:
    """An output as a terminal would show it: a value, or what was printed."""
    return (
        str(output["data"]["text/plain"])
        if "data" in output
        else f"{output['output_type']}: {output.get('text')}"
    )


def test_the_notebook_shows_what_running_it_shows(executed: Any, tmp_path: Path) -> None:
    again = tmp_path / NOTEBOOK.name
    nbformat.write(executed, again)
    committed = nbformat.read(NOTEBOOK, as_version=4)
    assert shown(committed) == shown(executed), f"if this is meant: cp {again} {NOTEBOOK}"
    assert all(outputs for _, outputs in shown(committed)), "every cell shows something"
