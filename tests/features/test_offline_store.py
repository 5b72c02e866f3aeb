"""What a point-in-time read gives, case by case, through a real FeatureStore."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import Field
from feast.errors import (
    EntityTimestampInferenceException,
)
from feast.types import Float64

from ml_platform.kernel.errors import DeclarationError
from tests.features.offline_repo import (
    CARD,
    CARD_KEY,
    OfflineRepo,
    answers,
    asked,
    at,
    card_store,
    card_view,
)

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def repo(tmp_path: Path) -> OfflineRepo:
    return OfflineRepo(tmp_path)


def test_both_ends_of_the_ttl_are_included(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(5), at(5), 5.0, 1)], ttl=2 * HOUR)
    times = [at(5, micros=-1), at(5), at(7), at(7, micros=1)]
    assert answers(store, *((1, time) for time in times)) == [None, 5.0, 5.0, None]
    assert answers(store, (1, at(7))) == [5.0]
    assert answers(store, (1, at(5))) == [5.0]


def test_no_ttl_is_unlimited(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(5), at(5), 5.0, 1)])
    assert answers(store, (1, at(24 * 365 * 30))) == [5.0]


def test_the_newest_event_wins_then_the_newest_creation_and_a_missing_creation_loses(
    repo: OfflineRepo,
) -> None:
    rows = [
        (1, at(3), at(9), 3.9, 1),
        (1, at(5), at(6), 5.6, 1),
        (1, at(5), at(8), 5.8, 1),
        (1, at(5), None, 5.0, 1),
        (2, at(5), None, 2.0, 1),
    ]
    assert answers(card_store(repo, rows), (1, at(10)), (2, at(10))) == [5.8, 2.0]


def test_the_newest_row_wins_even_if_its_value_is_missing(repo: OfflineRepo) -> None:
    rows = [(1, at(3), at(3), 3.0, 1), (1, at(5), at(5), None, 1)]
    assert answers(card_store(repo, rows), (1, at(6))) == [None]


def test_a_full_tie_goes_to_the_greater_row_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [(1, at(5), at(5), 1.0, 9), (1, at(5), at(5), 2.0, 7), (1, at(5), at(5), 3.0, 8)]
    for number, order in enumerate([rows, rows[::-1]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert answers(card_store(OfflineRepo(folder), order), (1, at(6))) == [
            1.0
        ]  # 9 is the greatest `count`


def test_what_was_not_known_yet_is_not_seen(repo: OfflineRepo) -> None:
    rows = [
        (1, at(1), at(1), 1.0, 1),
        (1, at(2), at(6), 2.0, 1),  # late, and overtaken at 4
        (1, at(3), at(4), 3.0, 1),
        (1, at(3), at(8), 3.8, 1),  # corrected at 8
        (1, at(9), None, 9.0, 1),  # never known
    ]
    store = card_store(repo, rows, known_at=True)
    times = [3.5, 4, 6, 7.9, 8, 12]
    assert answers(store, *((1, at(time)) for time in times)) == [1.0, 3.0, 3.0, 3.0, 3.8, 3.8]


def test_known_at_is_off_by_default_and_can_be_asked_for_once(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1), (1, at(2), at(6), 2.0, 1)])
    assert answers(store, (1, at(3))) == [2.0]
    assert answers(store, (1, at(3)), filter_by_created_timestamp=True) == [1.0]


def test_a_late_row_can_still_expire(repo: OfflineRepo) -> None:
    rows = [(1, at(1), at(1), 1.0, 1), (1, at(2), at(6), 2.0, 1)]
    store = card_store(repo, rows, known_at=True, ttl=5 * HOUR)
    assert answers(store, (1, at(5)), (1, at(6)), (1, at(7)), (1, at(7, micros=1))) == [1.0, 2.0, 2.0, None]


def test_rows_that_are_all_known_the_same_time_later_are_read_at_that_time(repo: OfflineRepo) -> None:
    rows = [(1, at(hour), at(hour + 7), float(hour), 1) for hour in range(4)]
    store = card_store(repo, rows, known_at=True, ttl=8 * HOUR)
    assert answers(store, *((1, at(hour)) for hour in (6.9, 7, 8.5, 11, 11.1))) == [None, 0.0, 1.0, 3.0, None]


def test_available_after_reads_that_much_earlier_and_never_moves_the_ttl(repo: OfflineRepo) -> None:
    rows = [(1, at(2), at(2), 2.0, 1), (1, at(4), at(4), 4.0, 1)]
    store = card_store(repo, rows, ttl=3 * HOUR, tags={"available_after": "3600"})
    times = [at(3, micros=-1), at(3), at(4.5), at(5), at(7), at(7, micros=1)]
    assert answers(store, *((1, time) for time in times)) == [None, 2.0, 2.0, 4.0, 4.0, None]


def test_an_available_after_that_is_not_whole_seconds_is_refused(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(2), at(2), 2.0, 1)], tags={"available_after": "1h"})
    with pytest.raises(DeclarationError, match="whole seconds"):
        answers(store, (1, at(3)))


def test_every_entity_row_stays_in_its_place_with_its_own_columns(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1), (2, at(1), at(1), 2.0, 2)])
    rows = [(2, at(4)), (1, at(3)), (9, at(3)), (None, at(3)), (2, None), (1, at(3)), (1, at(0))]
    frame = asked(*rows, label=[0, 1, 0, 1, 0, 1, 1], k0=list("abcdefg"))[
        ["label", "card_id", "event_timestamp", "k0"]
    ]
    frame.index = pd.Index(range(100, 107))
    job = store.get_historical_features(frame, ["spending:count", "spending:spent"])
    got = job.to_df()
    assert list(got.columns) == ["label", "card_id", "event_timestamp", "k0", "count", "spent"]
    assert got["k0"].tolist() == list("abcdefg")
    assert got["label"].tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert job.to_arrow().column("count").to_pylist() == [2, 1, None, None, None, 1, None]
    assert job.to_arrow_reader(batch_rows=2).read_all().equals(job.to_arrow())


def test_the_callers_frame_is_left_alone(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1)])
    frame = pd.DataFrame({"card_id": [1], "event_timestamp": ["2024-01-01 03:00:00"]})
    before = frame.copy(deep=True)
    store.get_historical_features(frame, ["spending:spent"]).to_df()
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(["2024-01-01 03:00", "2024-01-01 04:00"]),
        pd.to_datetime(["2024-01-01 03:00", "2024-01-01 04:00"]).tz_localize("UTC").tz_convert("Asia/Tokyo"),
        ["2024-01-01 03:00:00", "2024-01-01T06:00:00+02:00"],
        [dt.datetime(2024, 1, 1, 3), dt.datetime(2024, 1, 1, 6, tzinfo=dt.timezone(2 * HOUR))],  # noqa: DTZ001
    ],
    ids=["naive", "zoned", "text", "objects of mixed zones"],
)
def test_times_of_any_kind_mean_utc(repo: OfflineRepo, times: Any) -> None:
    store = card_store(repo, [(1, at(3), at(3), 3.0, 1), (1, at(4), at(4), 4.0, 1)])
    frame = pd.DataFrame({"card_id": [1, 1], "event_timestamp": times})
    got = store.get_historical_features(frame, ["spending:spent"]).to_arrow()
    assert got.column("spent").to_pylist() == [3.0, 4.0]
    assert got.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")
    assert got.column("event_timestamp").to_pylist() == [at(3), at(4)]


def test_the_event_time_is_the_column_of_that_name_else_the_only_time(
    repo: OfflineRepo, capsys: pytest.CaptureFixture[str]
) -> None:
    store = card_store(repo, [(1, at(3), at(3), 3.0, 1), (1, at(4), at(4), 4.0, 1)])
    frame = asked((1, at(3)), paid_at=[at(9)])
    assert store.get_historical_features(frame, ["spending:spent"]).to_df()["spent"].tolist() == [3.0]
    renamed = frame.drop(columns="event_timestamp")
    assert store.get_historical_features(renamed, ["spending:spent"]).to_df()["spent"].tolist() == [4.0]
    assert "paid_at" in capsys.readouterr().out
    with pytest.raises(EntityTimestampInferenceException):
        store.get_historical_features(
            frame.rename(columns={"event_timestamp": "asked_at"}), ["spending:spent"]
        )


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_source_times_of_any_unit_with_or_without_a_zone_mean_utc(repo: OfflineRepo, unit: str) -> None:
    times = pd.Series([at(3), at(4)]).astype(f"datetime64[{unit}, UTC]")
    rows = {"card_id": [1, 1], "spent": [3.0, 4.0], "count": [3, 4]}
    zoned = repo.source("zoned", {**rows, "ts": times, "created": times})
    naive = repo.source(
        "naive", {**rows, "ts": times.dt.tz_localize(None), "created": times.dt.tz_localize(None)}
    )
    store = repo.store(known_at=True)
    store.apply([CARD, card_view("zoned", zoned), card_view("naive", naive)])
    features = ["zoned:spent", "naive:spent"]
    got = store.get_historical_features(asked((1, at(3.5))), features, full_feature_names=True).to_df()
    assert got[["zoned__spent", "naive__spent"]].to_numpy().tolist() == [[3.0, 3.0]]


def test_an_empty_frame_gives_no_rows_of_the_right_types(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1)], known_at=True)
    for frame in (asked((1, at(1)))[:0], pd.DataFrame({"card_id": [], "event_timestamp": []})):
        job = store.get_historical_features(frame, ["spending:spent", "spending:count"])
        for got in (job.to_arrow(), job.to_arrow_reader().read_all()):
            assert got.num_rows == 0
            assert got.schema.field("spent").type == pa.float64()
            assert got.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")
        assert job.to_df().empty


def test_a_query_can_be_the_entity_frame(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(3), at(3), 3.0, 1), (1, at(4), at(4), 4.0, 2)])
    query = """
        SELECT * FROM (VALUES ('b', 1::BIGINT, TIMESTAMP '2024-01-01 04:30'), ('a', 1, '2024-01-01 03:30'),
            ('c', NULL, '2024-01-01 03:30'), ('d', 1, NULL)) AS rows(label, card_id, event_timestamp) -- as asked
    """
    job = store.get_historical_features(query, ["spending:spent"])
    got = job.to_arrow()
    assert got.column_names == ["label", "card_id", "event_timestamp", "spent"]
    assert got.column("label").to_pylist() == ["b", "a", "c", "d"]
    assert got.column("spent").to_pylist() == [4.0, 3.0, None, None]
    assert got.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")
    assert job.metadata.keys == ["label", "card_id"]
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (at(3.5), at(4.5))


def test_without_entity_rows_each_key_and_time_of_the_range_is_a_row(repo: OfflineRepo) -> None:
    rows = [
        (1, at(1), at(1), 1.0, 1),
        (2, at(2), at(2), 2.0, 1),
        (1, at(4), at(4), 4.0, 1),
        (1, at(4), at(5), 4.5, 1),
        (1, at(5), at(5), 5.0, 1),
    ]
    store = card_store(repo, rows)
    start, end = dt.datetime(2024, 1, 1, 2), dt.datetime(2024, 1, 1, 4)  # noqa: DTZ001 - naive is UTC
    job = store.get_historical_features(None, ["spending:spent"], start_date=start, end_date=end)
    got = job.to_arrow().to_pylist()
    assert got == [
        {"event_timestamp": at(2), "card_id": 2, "spent": 2.0},
        {"event_timestamp": at(4), "card_id": 1, "spent": 4.5},
    ]
    everything = store.get_historical_features(None, ["spending:spent"], start_date=start)
    assert everything.to_arrow().column("spent").to_pylist() == [2.0, 4.5, 5.0]


def test_the_sql_of_a_read_can_be_shown(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1)])
    sql = store.get_historical_features(asked((1, at(2))), ["spending:spent"]).to_sql()
    assert sql.count("ASOF LEFT JOIN") == 1


def test_a_read_spills_instead_of_breaking_its_memory_limit(repo: OfflineRepo) -> None:
    count = 200_000
    rows = {
        "card_id": np.arange(count) % 500,
        "ts": at(0) + pd.to_timedelta(np.arange(count), unit="s"),
        **{f"v{i}": np.arange(count, dtype=float) for i in range(8)},
    }
    fields = [Field(name=f"v{i}", dtype=Float64) for i in range(8)]
    spill = repo.folder / "spill"
    store = repo.store(memory_limit="48MB", temp_directory=str(spill))
    store.apply([CARD, card_view("wide", repo.source("wide", rows), schema=[CARD_KEY, *fields])])
    frame = pd.DataFrame({"card_id": rows["card_id"], "event_timestamp": rows["ts"]})
    stream = store.get_historical_features(frame, [f"wide:v{i}" for i in range(8)]).to_arrow_reader(10_000)
    seen = 0
    for batch in stream:
        assert batch.column("v3").to_pylist()[0] == float(seen)
        seen += batch.num_rows
    assert seen == count
