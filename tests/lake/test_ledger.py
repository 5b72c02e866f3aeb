"""Ledgers only grow, keep the order of their entries, and have exactly their declared columns."""

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ml_platform.lake import ledger
from ml_platform.lake.ledger import (
    Ledger,
    Publication,
    publications_by_asset,
    publish_partitions,
    published,
    published_since,
)
from ml_platform.lake.tables import Lake, Table

A, B, C = "2018-06-01", "2018-06-02", "2018-06-03"

LEDGER = Ledger("decisions", {"who": pa.string(), "days": pa.list_(pa.string())})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def publish(lake: Lake, *days: tuple[str, int], asset: str = "features/toy") -> list[Publication]:
    """Publish one row a day; the value is what the content hash says too."""
    return publish_partitions(lake, rows(*days), [a_publication(asset, day, value) for day, value in days])


def rows(*days: tuple[str, int]) -> pa.Table:
    dates = pa.array([dt.date.fromisoformat(day) for day, _ in days], pa.date32())
    return pa.table({"x": pa.array([value for _, value in days], pa.int64()), "partition_date": dates})


def a_publication(asset: str, day: str, value: int) -> Publication:
    return Publication(asset, day, str(value), 1, 0, "declaration", "run")


def contents(lake: Lake, asset: str = "features/toy") -> dict[str, str]:
    return {day: publication.content_hash for day, publication in published(lake, asset).items()}


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


def test_two_releases_of_the_platform_read_and_write_one_ledger(lake: Lake) -> None:
    later = Ledger("decisions", {**LEDGER.columns, "why": pa.string()})
    LEDGER.append(lake, [{"who": "ann", "days": [A]}])
    assert [entry["why"] for entry in later.entries(lake)] == [None]
    later.append(lake, [{"who": "bob", "days": [B], "why": "because"}])
    LEDGER.append(lake, [{"who": "ann", "days": [C]}])  # whoever went back to the earlier one
    assert [(entry["who"], entry["days"]) for entry in LEDGER.entries(lake)] == [
        ("ann", [A]),
        ("bob", [B]),
        ("ann", [C]),
    ]
    assert [entry["why"] for entry in later.entries(lake)] == [None, "because", None]


def test_the_newest_publication_of_each_partition_is_what_readers_get(lake: Lake) -> None:
    publish(lake, (A, 1), (B, 2))
    publish(lake, (A, 3))
    publish(lake, (A, 4), asset="features/other")
    assert contents(lake) == {A: "3", B: "2"} and contents(lake, "features/other") == {A: "4"}
    assert published(lake, "features/none") == {}


def test_publications_name_the_version_of_the_table_that_has_their_rows(lake: Lake) -> None:
    first, second = publish(lake, (A, 1), (B, 2)), publish(lake, (B, 3))
    assert [p.table_version for p in [*first, *second]] == [1, 1, 2]
    assert published(lake, "features/toy") == {A: first[0], B: second[0]}


def test_the_later_commit_of_two_writers_counts_whoever_recorded_it_first(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writer commits, another commits the same day and records it, and only then the first one records its own."""
    appending = Ledger.append

    def after_another_writer(*arguments: Any) -> None:
        monkeypatch.setattr(Ledger, "append", appending)
        publish(lake, (A, 2))
        appending(*arguments)

    monkeypatch.setattr(Ledger, "append", after_another_writer)
    [first] = publish(lake, (A, 1))
    assert first.table_version == 1 and contents(lake) == {A: "2"}
    assert [row[0] for row in duckdb.sql(lake.table("features/toy").scan()).fetchall()] == [2]


def test_what_a_dead_process_committed_is_published_and_the_next_publisher_records_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(lake, (A, 1))
    with monkeypatch.context() as dying:
        dying.setattr(ledger, "_record", lambda *_: None)
        publish(lake, (A, 2), (B, 3))
        publish(lake, (A, 4), asset="features/new")
    assert contents(lake) == {A: "2", B: "3"} and len(recorded(lake)) == 1
    assert contents(lake, "features/new") == {A: "4"}, "the first version of an asset can be recovered too"
    assert set(publications_by_asset(lake, ["features/new"])) == {"features/toy", "features/new"}
    publish(lake, (C, 5))
    assert contents(lake) == {A: "2", B: "3", C: "5"}
    assert recorded(lake)[1:] == [("features/toy", A, 2), ("features/toy", B, 2), ("features/toy", C, 3)]


def test_the_greatest_value_is_the_same_wherever_it_is_looked_for_first(lake: Lake) -> None:
    numbers = Ledger("numbers", {"asset": pa.string(), "number": pa.int64()})
    for number in (3, 7, 5):
        numbers.append(lake, [{"asset": "a", "number": number}, {"asset": "b", "number": 10 * number}])
    for near in (None, 0, 6, 7, 8, 60):
        assert numbers.greatest(lake, "number", near=near, asset=["a"]) == 7
        assert numbers.greatest(lake, "number", near=near, asset=["c"]) is None


def test_partitions_since_a_first_one_have_their_newest_publication_recorded_or_not(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(lake, (A, 1), (B, 2))
    publish(lake, (C, 3))
    publish(lake, (A, 4))
    with monkeypatch.context() as dying:
        dying.setattr(ledger, "_record", lambda *_: None)
        publish(lake, (B, 5), (A, 6))
    for first, wanted in {A: {A: "6", B: "5", C: "3"}, B: {B: "5", C: "3"}, "2018-06-04": {}}.items():
        found = published_since(lake, "features/toy", first)
        assert {day: publication.content_hash for day, publication in found.items()} == wanted


def test_readers_open_no_table_that_has_no_commits_beyond_the_ledger(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(lake, (A, 1))
    opened: list[str] = []
    opening = Table.open

    def noted(table: Table, version: int | None = None) -> Any:
        opened.append(table.uri)
        return opening(table, version)

    monkeypatch.setattr(Table, "open", noted)
    assert contents(lake) == {A: "1"}
    assert opened == [lake.table("ledgers/publications").uri]


def recorded(lake: Lake) -> list[tuple[str, str, int]]:
    entries = ledger._PUBLICATIONS.entries(lake)
    return [(entry["asset"], entry["partition"], entry["table_version"]) for entry in entries]
