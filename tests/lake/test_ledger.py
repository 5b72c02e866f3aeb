"""Ledgers only grow, keep the order of their entries, and have exactly their declared columns."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from ml_platform.lake.ledger import Ledger, Publication, published, record_publications
from ml_platform.lake.tables import Lake

LEDGER = Ledger("decisions", {"who": pa.string(), "days": pa.list_(pa.string())})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def a_publication(partition: str, content: str, *, asset: str = "features/toy") -> Publication:
    return Publication(asset, partition, content, 1, 0, "declaration", "run")


def test_a_ledger_that_was_never_written_has_no_entries(lake: Lake) -> None:
    assert LEDGER.entries(lake) == []


def test_entries_stay_in_the_order_in_which_they_were_made(lake: Lake) -> None:
    for number in range(4):
        LEDGER.append(
            lake, [{"who": f"{number}a", "days": []}, {"who": f"{number}b", "days": ["2018-06-01"]}]
        )
    entries = LEDGER.entries(lake)
    assert [entry["who"] for entry in entries] == [f"{n}{letter}" for n in range(4) for letter in "ab"]
    assert entries[1]["days"] == ["2018-06-01"]
    times = [entry["recorded_at"] for entry in entries]
    assert times == sorted(times) and times[0] == times[1] and times[0].utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize("entry", [{"who": "ada", "days": [], "when": "now"}, {"who": "ada"}])
def test_an_entry_has_exactly_the_declared_columns(lake: Lake, entry: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ledger decisions has columns"):
        LEDGER.append(lake, [entry])
    assert LEDGER.entries(lake) == []


def test_the_newest_publication_of_each_partition_is_what_readers_get(lake: Lake) -> None:
    record_publications(lake, [a_publication("2018-06-01", "old"), a_publication("2018-06-02", "kept")])
    record_publications(lake, [a_publication("2018-06-01", "new")])
    record_publications(lake, [a_publication("2018-06-01", "other's", asset="features/other")])
    assert {key: found.content_hash for key, found in published(lake, "features/toy").items()} == {
        "2018-06-01": "new",
        "2018-06-02": "kept",
    }
    assert published(lake, "features/none") == {}


def test_nothing_published_is_nothing_written(lake: Lake) -> None:
    record_publications(lake, [])
    assert lake.table("ledgers/publications").version() is None
