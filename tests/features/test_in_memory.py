"""A frame joined in memory: what is searched for, what is left to DuckDB, and that both agree."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Array, Float64, Int64, String
from feast.value_type import ValueType

from ml_platform.features import in_memory, search
from ml_platform.features.reads import PointInTimeRead
from ml_platform.features.search import Answers, Asking, Search, taken
from tests.features.offline_repo import CARD, CARD_KEY, OfflineRepo, asked, at, card_view


@pytest.fixture
def repo(tmp_path: Path) -> OfflineRepo:
    return OfflineRepo(tmp_path)


def numbers(*values: int | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.int64())])


def positions(asking: Asking, answers: Answers) -> list[int | None]:
    search = Search.of(asking, answers)
    assert search is not None and not len(search.tied)
    return search.positions().to_pylist()


def test_the_answer_is_the_last_row_of_the_key_at_or_before_the_time() -> None:
    answers = Answers(numbers(10, 30, 20), [numbers(7, 7, 8)])
    asking = Asking(numbers(9, 10, 29, 30, 99, 20, 99, None), [numbers(7, 7, 7, 7, 7, 8, 9, 7)])
    assert positions(asking, answers) == [None, 0, 0, 1, 1, 2, None, None]


def test_a_row_at_the_end_of_its_ttl_is_an_answer_and_one_past_it_is_none() -> None:
    search = Search.of(Asking(numbers(15, 16), [numbers(7, 7)]), Answers(numbers(10), [numbers(7)]))
    assert search is not None and search.positions(numbers(10), ttl=5).to_pylist() == [0, None]


def test_of_rows_that_tie_the_one_is_the_answer_that_was_decided_on() -> None:
    answers = Answers(numbers(10, 20, 20, 20, 10), [numbers(7, 7, 7, 7, 8)])
    search = Search.of(Asking(numbers(19, 20, 99, 99), [numbers(7, 7, 7, 8)]), answers)
    assert search is not None and sorted(search.tied.tolist()) == [2, 3]
    decided = search.decided(Answers(numbers(10, 20), [numbers(8, 7)]))
    assert decided.positions().to_pylist() == [0, 6, 6, 5]


def test_rows_that_decide_no_tie_change_no_answer() -> None:
    search = Search.of(Asking(numbers(12, 25), [numbers(7, 7)]), Answers(numbers(10, 20), [numbers(7, 7)]))
    assert search is not None
    for moment, key in ((15, 7), (5, 7), (5, 8)):
        assert search.decided(Answers(numbers(moment), [numbers(key)])).positions().to_pylist() == [0, 1]


def test_a_view_without_keys_has_one_answer_for_all() -> None:
    assert positions(Asking(numbers(9, 10, 25), []), Answers(numbers(20, 10), [])) == [None, 1, 0]


def test_more_keys_than_two_digits_of_the_sort_hold_are_found() -> None:
    keys = [n * 3 for n in range(70_000)]
    answers = Answers(numbers(*([5] * len(keys))), [numbers(*keys)])
    asking = Asking(numbers(5, 4, 5), [numbers(keys[-1], keys[-1], 1)])
    assert positions(asking, answers) == [len(keys) - 1, None, None]


def test_keys_and_times_that_make_more_places_than_there_are_numbers_are_left_alone() -> None:
    answers = Answers(numbers(0, 2**62), [numbers(1, 2)])
    assert Search.of(Asking(numbers(1), [numbers(1)]), answers) is None


def test_text_is_taken_in_pieces_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_ROWS_OF_TEXT", 2)
    texts = pa.chunked_array([["a", None], ["c"]])
    got = taken(texts, pa.array([2, 0, None, 1, 2], pa.int64()))
    assert (got.to_pylist(), got.num_chunks) == (["c", "a", None, None, "c"], 3)
    assert taken(texts, pa.array([], pa.int64())).type == pa.string()


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ([Decimal("1.5"), Decimal("2.5")], [Decimal("2.5"), None]),
        ([1.5, 2.5], [2.5, float("nan")]),
        ([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], [dt.date(2024, 1, 2), None]),
        ([2**63, 2**63 + 1], [2**63 + 1, 5]),
        ([True, False], [False, None]),
        ([1, 2], [Decimal(2), Decimal("2.5")]),
    ],
)
def test_keys_of_any_type_are_joined(repo: OfflineRepo, stored: list[Any], wanted: list[Any]) -> None:
    key = Entity(name="key", join_keys=["key"], value_type=ValueType.STRING)
    source = repo.source("spending", {"key": stored, "ts": [at(1), at(1)], "spent": [1.0, 2.0]})
    schema = [Field(name="key", dtype=String), Field(name="spent", dtype=Float64)]
    store = repo.store()
    store.apply([key, FeatureView(name="spending", entities=[key], source=source, schema=schema)])
    frame = pd.DataFrame({"key": pd.Series(wanted), "event_timestamp": [at(2), at(2)]})
    got = store.get_historical_features(frame, ["spending:spent"]).to_arrow()
    assert got.column("spent").to_pylist() == [2.0, None]


def test_features_of_any_length_and_rows_beyond_memory_are_left_to_duckdb(
    repo: OfflineRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed: list[PointInTimeRead] = []
    stream = PointInTimeRead.stream
    monkeypatch.setattr(
        PointInTimeRead, "stream", lambda self, *how: (streamed.append(self), stream(self, *how))[1]
    )
    rows = {"card_id": [1], "ts": [at(1)], "spent": [1.0], "recent": [[1, 2]]}
    schema = [CARD_KEY, Field(name="spent", dtype=Float64), Field(name="recent", dtype=Array(Int64))]
    store = repo.store()
    source: FileSource = repo.source("spending", rows)
    store.apply([CARD, card_view("spending", source, schema=schema)])

    def answer(name: str) -> Any:
        return (
            store.get_historical_features(asked((1, at(2))), [f"spending:{name}"])
            .to_arrow()[name]
            .to_pylist()
        )

    assert (answer("spent"), len(streamed)) == ([1.0], 0)
    assert (answer("recent"), len(streamed)) == ([[1, 2]], 1)
    monkeypatch.setattr(in_memory, "_VALUES", 3)
    assert (answer("spent"), len(streamed)) == ([1.0], 2)
