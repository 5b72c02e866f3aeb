"""Documents of the lake are written and replaced whole and found by name, in a folder or an object store."""

import threading
from pathlib import Path
from uuid import uuid4

import pytest

from ml_platform.lake import documents
from ml_platform.lake.tables import Lake

PAGE = "reports/drift_profiles/fraud/2018-06-01.html"
FOLDER = "reports/drift_profiles/fraud"


@pytest.fixture(params=["folder", "object store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(
        str(tmp_path / "lake") if request.param == "folder" else f"fsspec+memory://lake/{uuid4().hex}"
    )


def test_a_document_is_what_was_written_last_and_is_found_by_its_uri(lake: Lake) -> None:
    assert documents.read(lake, PAGE) is None
    assert documents.names(lake, FOLDER) == []
    for content in (b"first, and longer", b"second"):
        assert documents.write(lake, PAGE, content) == f"{lake.root}/{PAGE}" == documents.uri(lake, PAGE)
        assert documents.read(lake, PAGE) == content
    documents.write(lake, f"{FOLDER}/2018-05-31.html", b"")
    assert documents.names(lake, FOLDER) == ["2018-05-31.html", "2018-06-01.html"]
    assert sorted(lake.files()) == [f"{FOLDER}/2018-05-31.html", PAGE]
    assert lake.table_names() == []


def test_who_reads_while_a_document_is_replaced_never_gets_a_part_of_it(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    whole = {bytes([letter]) * 400_000 for letter in b"ab"}
    documents.write(lake, PAGE, b"a" * 400_000)
    done = threading.Event()

    def replace_it() -> None:
        for _ in range(40):
            for content in whole:
                documents.write(lake, PAGE, content)
        done.set()

    writer = threading.Thread(target=replace_it)
    writer.start()
    seen = set[bytes | None]()
    while not done.is_set():
        seen.add(documents.read(lake, PAGE))
    writer.join()
    assert seen <= whole
