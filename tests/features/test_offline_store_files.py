"""Where rows come from: files, folders and tables at a version, and pulls of them for the online store."""

import datetime as dt
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from feast import FeatureView, Field
from feast.data_format import DeltaFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Map, String, Struct

from ml_platform.kernel.errors import DeclarationError, StoreError
from tests.features.offline_repo import (
    CARD,
    CARD_KEY,
    HISTORY,
    SPENT,
    OfflineRepo,
    answers_at,
    arrow,
    asked,
    at,
    card_view,
    file_source,
    file_store,
    pull,
    rows,
)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OfflineRepo:
    """A repository that is not the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "repository"
    folder.mkdir()
    return OfflineRepo(folder)


def write_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    HISTORY[:2].to_parquet(folder / "one.parquet")
    HISTORY[2:].assign(shop="a").to_parquet(folder / "two.parquet")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "half.parquet").write_bytes(b"not yet")


def test_a_file_is_found_from_the_repository(repo: OfflineRepo) -> None:
    repo.write("spending [1]*.parquet", HISTORY.to_dict("list"))
    assert answers_at(file_store(repo, "data/spending [1]*.parquet"), 1, 2) == [3.5, 2.0]


def test_a_folder_of_files_is_one_source_by_column_name(repo: OfflineRepo) -> None:
    write_folder(repo.folder / "data" / "spending")
    assert answers_at(file_store(repo, "data/spending"), 1, 2) == [3.5, 2.0]


def test_a_folder_by_partition_gives_the_partition_as_a_column(repo: OfflineRepo) -> None:
    pq.write_to_dataset(arrow(HISTORY), repo.folder / "data" / "spending", partition_cols=["card_id"])
    assert answers_at(file_store(repo, "data/spending"), 1, 2) == [3.5, 2.0]


@pytest.mark.parametrize("said", [True, False], ids=["says that it is Delta", "is found to be Delta"])
def test_a_delta_table_is_read_without_the_files_that_it_dropped(repo: OfflineRepo, said: bool) -> None:
    table = repo.folder / "lake" / "spending"
    write_deltalake(table, arrow(HISTORY.assign(spent=100.0)))
    write_deltalake(table, arrow(HISTORY), mode="overwrite")
    store = repo.store()
    source = file_source("lake/spending", file_format=DeltaFormat() if said else None)
    store.apply([CARD, card_view("spending", source)])
    assert answers_at(store, 1, 2, 3) == [3.5, 2.0, None]


def test_a_pinned_version_is_read_and_named_files_win_over_it(repo: OfflineRepo) -> None:
    table = repo.folder / "lake" / "spending"
    for value in (1.0, 2.0, 3.0):
        write_deltalake(table, arrow(HISTORY.assign(spent=value)), mode="overwrite")
    files = DeltaTable(table, version=0).file_uris()
    assert answers_at(file_store(repo, "lake/spending"), 1) == [3.0]
    pinned = {"table_versions": {"lake/spending": 1}}
    assert answers_at(file_store(repo, "lake/spending", **pinned), 1) == [2.0]
    assert answers_at(
        file_store(repo, "lake/spending", **pinned, table_files={"lake/spending": files}), 1
    ) == [1.0]


def test_an_empty_delta_table_gives_typed_nulls(repo: OfflineRepo) -> None:
    write_deltalake(repo.folder / "lake" / "spending", arrow(HISTORY)[:0])
    store = file_store(repo, "lake/spending", known_at=True)
    frame = pd.DataFrame({"card_id": [1], "event_timestamp": [at(9)]})
    got = store.get_historical_features(frame, ["spending:spent", "spending:count"]).to_arrow()
    assert got.schema.field("spent").type == pa.float64()
    assert got.select(["spent", "count"]).to_pylist() == [{"spent": None, "count": None}]


@pytest.mark.parametrize("count", [4, 0])
def test_structs_and_maps_of_a_delta_table_come_as_they_are(repo: OfflineRepo, count: int) -> None:
    profile = pa.struct([("vehicle type", pa.string()), ("ratings", pa.list_(pa.int64()))])
    limits = pa.map_(pa.string(), pa.float64())
    table = arrow(HISTORY)
    table = table.append_column(
        "profile", pa.array([{"vehicle type": "van", "ratings": [4, 5]}] * 4, profile)
    )
    table = table.append_column("limits", pa.array([[("day", 0.5)]] * 4, limits))
    write_deltalake(repo.folder / "lake" / "spending", table[:count])
    schema = [
        CARD_KEY,
        Field(name="profile", dtype=Struct({"vehicle type": String})),
        Field(name="limits", dtype=Map),
    ]
    store = repo.store()
    store.apply([CARD, card_view("spending", file_source("lake/spending"), schema=schema)])
    got = store.get_historical_features(
        asked((1, at(9)), (7, at(9))), ["spending:profile", "spending:limits"]
    )
    answer = got.to_arrow()
    assert (answer.schema.field("profile").type, answer.schema.field("limits").type) == (profile, limits)
    vans = [{"vehicle type": "van", "ratings": [4, 5]} if count else None, None]
    assert answer.column("profile").to_pylist() == vans
    assert answer.column("limits").to_pylist() == [[("day", 0.5)] if count else None, None]


def test_columns_of_a_delta_table_are_inferred_from_the_repository(repo: OfflineRepo) -> None:
    write_deltalake(repo.folder / "lake" / "spending", arrow(HISTORY))
    store = repo.store()
    source = file_source("lake/spending", file_format=DeltaFormat())
    store.apply([CARD, FeatureView(name="spending", entities=[CARD], source=source)])
    assert {field.name for field in store.get_feature_view("spending").features} == {"spent", "count"}


def test_nothing_to_read_says_what_is_missing(repo: OfflineRepo) -> None:
    path = repo.write("spending.parquet", HISTORY.to_dict("list"))
    store = file_store(repo, path)
    (repo.folder / path).unlink()
    with pytest.raises(StoreError, match=r"spending\.parquet"):
        answers_at(store, 1)


def test_a_column_that_the_source_lacks_is_named_with_those_it_has(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.drop(columns="spent").to_dict("list")))
    with pytest.raises(DeclarationError, match=r"'spent'.*'count'"):
        answers_at(store, 1)


def test_pull_latest_is_one_row_per_key_by_event_then_creation_with_both_ends(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    got = pull(store, latest=True, start_date=at(2), end_date=at(3))
    assert got == [
        {"card_id": 2, "spent": 2.0, "ts": at(2), "created": at(2)},
        {"card_id": 1, "spent": 3.5, "ts": at(3), "created": at(5)},
    ]
    assert [row["spent"] for row in pull(store, latest=True, start_date=at(0), end_date=at(2))] == [1.0, 2.0]


def test_pull_all_keeps_every_row_with_both_ends_and_may_be_open(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    assert [row["spent"] for row in pull(store, latest=False)] == [1.0, 2.0, 3.0, 3.5]
    assert [row["spent"] for row in pull(store, latest=False, start_date=at(2))] == [2.0, 3.0, 3.5]
    assert [row["spent"] for row in pull(store, latest=False, start_date=at(1), end_date=at(2))] == [1.0, 2.0]


def test_pulls_may_have_no_keys(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    bounds = {"start_date": at(0), "end_date": at(9), "join_key_columns": []}
    (newest,) = pull(store, latest=True, **bounds)
    assert (newest["spent"], newest["__dummy_id"]) == (
        3.5,
        "",
    )  # the key that Feast gives views without entities
    assert len(pull(store, latest=False, **bounds)) == 4


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the machine's zone cannot be changed here")
def test_naive_bounds_are_utc_whatever_the_machines_zone(
    repo: OfflineRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        start, end = dt.datetime(2024, 1, 1, 2), dt.datetime(2024, 1, 1, 2)  # noqa: DTZ001
        assert [row["spent"] for row in pull(store, latest=True, start_date=start, end_date=end)] == [2.0]
        recent = pd.Timestamp.now("UTC") - pd.Timedelta(minutes=5)
        frame = rows((7, recent, recent, 7.0, 7))
        frame.to_parquet(repo.folder / "data" / "spending.parquet")
        got = store.get_historical_features(None, ["spending:spent"], start_date=start).to_arrow()
        assert got.column("spent").to_pylist() == [7.0]  # no end is now, not the local clock read as UTC
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_pulls_take_the_sources_own_names_and_do_not_map_again(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    source = file_source("data/spending.parquet", field_mapping={"count": "spent", "spent": "count"})
    got = pull(store, latest=True, source=source, start_date=at(0), end_date=at(9))
    assert [row["spent"] for row in got] == [2.0, 3.5]


def test_pulls_find_mapped_names_that_the_source_does_not_have(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    source = file_source("data/spending.parquet", field_mapping={"card_id": "card", "spent": "amount"})
    names = {"join_key_columns": ["card"], "feature_name_columns": ["amount"]}
    got = pull(store, latest=True, source=source, start_date=at(0), end_date=at(2), **names)
    assert got[0] == {"card": 1, "amount": 1.0, "ts": at(1), "created": at(1)}


def test_materialized_rows_are_the_latest_of_the_interval(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    store.materialize(at(0).to_pydatetime(), at(3).to_pydatetime())
    got = store.get_online_features(["spending:spent"], [{"card_id": card} for card in (1, 2, 3)]).to_dict()
    assert got["spent"] == [3.5, 2.0, None]


@pytest.mark.filterwarnings("ignore:On demand feature view is an experimental feature:RuntimeWarning")
def test_on_demand_views_materialize_from_a_source_with_renamed_keys(repo: OfflineRepo) -> None:
    path = repo.write("spending.parquet", HISTORY.rename(columns={"card_id": "id"}).to_dict("list"))
    store = repo.store()
    view = card_view("spending", file_source(path, field_mapping={"id": "card_id"}))

    @on_demand_feature_view(
        entities=[CARD],
        sources=[view],
        schema=[Field(name="double", dtype=Float64)],
        mode="pandas",
        write_to_online_store=True,
    )
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"double": inputs["spent"] * 2})

    store.apply([CARD, view, doubled])
    store.materialize(at(0).to_pydatetime(), at(9).to_pydatetime())
    got = store.get_online_features(["doubled:double"], [{"card_id": 1}, {"card_id": 2}]).to_dict()
    assert got["double"] == [7.0, 4.0]


def test_a_view_without_entities_can_be_materialized(repo: OfflineRepo) -> None:
    store = repo.store()
    source = file_source(repo.write("spending.parquet", HISTORY.to_dict("list")))
    store.apply([FeatureView(name="all_cards", schema=[SPENT], source=source)])
    store.materialize(at(0).to_pydatetime(), at(9).to_pydatetime())
    assert store.get_online_features(["all_cards:spent"], [{"anything": 1}]).to_dict()["spent"] == [3.5]
