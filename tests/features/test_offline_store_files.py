"""Where rows come from and go to: files, folders and tables, pulls, saved datasets, appended rows and logs."""

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from feast import FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from ml_platform.kernel.errors import DeclarationError, StoreError
from tests.features.offline_repo import CARD, CARD_KEY, SPENT, OfflineRepo, at, card_view


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OfflineRepo:
    """A repository that is not the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "repository"
    folder.mkdir()
    return OfflineRepo(folder)


def rows(*values: tuple[Any, ...]) -> pd.DataFrame:
    """(card, ts, created, spent, count) rows."""
    return pd.DataFrame(list(values), columns=["card_id", "ts", "created", "spent", "count"])


HISTORY = rows(
    (1, at(1), at(1), 1.0, 1), (1, at(3), at(3), 3.0, 3), (1, at(3), at(5), 3.5, 3), (2, at(2), at(2), 2.0, 2)
)


def arrow(frame: pd.DataFrame) -> pa.Table:
    """The rows with times in microseconds, as Delta wants them."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [
        pa.field(f.name, pa.timestamp("us", "UTC")) if pa.types.is_timestamp(f.type) else f
        for f in table.schema
    ]
    return table.cast(pa.schema(fields)).replace_schema_metadata()


def spending(repo: OfflineRepo, path: str, **offline_store: Any) -> FeatureStore:
    """A store with the view `spending` over whatever is at the path."""
    store = repo.store(**offline_store)
    store.apply([CARD, card_view("spending", file_source(path))])
    return store


def file_source(path: str, **options: Any) -> FileSource:
    return FileSource(
        name="spending", path=path, timestamp_field="ts", created_timestamp_column="created", **options
    )


def spent(store: FeatureStore, *cards: int, hour: float = 9) -> list[float | None]:
    frame = pd.DataFrame({"card_id": list(cards), "event_timestamp": [at(hour)] * len(cards)})
    return store.get_historical_features(frame, ["spending:spent"]).to_arrow().column("spent").to_pylist()


def pull(
    store: FeatureStore, *, latest: bool, source: FileSource | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Rows pulled as a compute engine pulls them."""
    offline = store._get_provider().offline_store
    method = offline.pull_latest_from_table_or_query if latest else offline.pull_all_from_table_or_query
    defaults = {
        "join_key_columns": ["card_id"],
        "feature_name_columns": ["spent"],
        "timestamp_field": "ts",
        "created_timestamp_column": "created",
    }
    source = source or store.get_feature_view("spending").batch_source
    job = method(config=store.config, data_source=source, **{**defaults, **options})
    return job.to_arrow().sort_by([("ts", "ascending"), ("created", "ascending")]).to_pylist()


def write_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    HISTORY[:2].to_parquet(folder / "one.parquet")
    HISTORY[2:].assign(shop="a").to_parquet(folder / "two.parquet")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "half.parquet").write_bytes(b"not yet")


def test_a_file_is_found_from_the_repository(repo: OfflineRepo) -> None:
    repo.write("spending [1]*.parquet", HISTORY.to_dict("list"))
    assert spent(spending(repo, "data/spending [1]*.parquet"), 1, 2) == [3.5, 2.0]


def test_a_folder_of_files_is_one_source_by_column_name(repo: OfflineRepo) -> None:
    write_folder(repo.folder / "data" / "spending")
    assert spent(spending(repo, "data/spending"), 1, 2) == [3.5, 2.0]


def test_a_folder_by_partition_gives_the_partition_as_a_column(repo: OfflineRepo) -> None:
    pq.write_to_dataset(arrow(HISTORY), repo.folder / "data" / "spending", partition_cols=["card_id"])
    assert spent(spending(repo, "data/spending"), 1, 2) == [3.5, 2.0]


@pytest.mark.parametrize("said", [True, False], ids=["says that it is Delta", "is found to be Delta"])
def test_a_delta_table_is_read_without_the_files_that_it_dropped(repo: OfflineRepo, said: bool) -> None:
    table = repo.folder / "lake" / "spending"
    write_deltalake(table, arrow(HISTORY.assign(spent=100.0)))
    write_deltalake(table, arrow(HISTORY), mode="overwrite")
    store = repo.store()
    source = file_source("lake/spending", file_format=DeltaFormat() if said else None)
    store.apply([CARD, card_view("spending", source)])
    assert spent(store, 1, 2, 3) == [3.5, 2.0, None]


def test_a_pinned_version_is_read_and_named_files_win_over_it(repo: OfflineRepo) -> None:
    table = repo.folder / "lake" / "spending"
    for value in (1.0, 2.0, 3.0):
        write_deltalake(table, arrow(HISTORY.assign(spent=value)), mode="overwrite")
    files = DeltaTable(table, version=0).file_uris()
    assert spent(spending(repo, "lake/spending"), 1) == [3.0]
    pinned = {"table_versions": {"lake/spending": 1}}
    assert spent(spending(repo, "lake/spending", **pinned), 1) == [2.0]
    assert spent(spending(repo, "lake/spending", **pinned, table_files={"lake/spending": files}), 1) == [1.0]


def test_an_empty_delta_table_gives_typed_nulls(repo: OfflineRepo) -> None:
    write_deltalake(repo.folder / "lake" / "spending", arrow(HISTORY)[:0])
    store = spending(repo, "lake/spending", known_at=True)
    frame = pd.DataFrame({"card_id": [1], "event_timestamp": [at(9)]})
    got = store.get_historical_features(frame, ["spending:spent", "spending:count"]).to_arrow()
    assert got.schema.field("spent").type == pa.float64()
    assert got.select(["spent", "count"]).to_pylist() == [{"spent": None, "count": None}]


def test_columns_of_a_delta_table_are_inferred_from_the_repository(repo: OfflineRepo) -> None:
    write_deltalake(repo.folder / "lake" / "spending", arrow(HISTORY))
    store = repo.store()
    source = file_source("lake/spending", file_format=DeltaFormat())
    store.apply([CARD, FeatureView(name="spending", entities=[CARD], source=source)])
    assert {field.name for field in store.get_feature_view("spending").features} == {"spent", "count"}


def test_nothing_to_read_says_what_is_missing(repo: OfflineRepo) -> None:
    path = repo.write("spending.parquet", HISTORY.to_dict("list"))
    store = spending(repo, path)
    (repo.folder / path).unlink()
    with pytest.raises(StoreError, match="spending.parquet"):
        spent(store, 1)


def test_a_column_that_the_source_lacks_is_named_with_those_it_has(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.drop(columns="spent").to_dict("list")))
    with pytest.raises(DeclarationError, match=r"'spent'.*'count'"):
        spent(store, 1)


def test_pull_latest_is_one_row_per_key_by_event_then_creation_with_both_ends(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    got = pull(store, latest=True, start_date=at(2), end_date=at(3))
    assert got == [
        {"card_id": 2, "spent": 2.0, "ts": at(2), "created": at(2)},
        {"card_id": 1, "spent": 3.5, "ts": at(3), "created": at(5)},
    ]
    assert [row["spent"] for row in pull(store, latest=True, start_date=at(0), end_date=at(2))] == [1.0, 2.0]


def test_pull_all_keeps_every_row_with_both_ends_and_may_be_open(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    assert [row["spent"] for row in pull(store, latest=False)] == [1.0, 2.0, 3.0, 3.5]
    assert [row["spent"] for row in pull(store, latest=False, start_date=at(2))] == [2.0, 3.0, 3.5]
    assert [row["spent"] for row in pull(store, latest=False, start_date=at(1), end_date=at(2))] == [1.0, 2.0]


def test_pulls_may_have_no_keys(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    bounds = {"start_date": at(0), "end_date": at(9), "join_key_columns": []}
    assert [row["spent"] for row in pull(store, latest=True, **bounds)] == [3.5]
    assert len(pull(store, latest=False, **bounds)) == 4


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the machine's zone cannot be changed here")
def test_naive_bounds_are_utc_whatever_the_machines_zone(
    repo: OfflineRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
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


def mapped(repo: OfflineRepo) -> tuple[FeatureStore, FileSource]:
    """A store whose source swaps two names: what is called `spent` there is the feature `count`."""
    path = repo.write("spending.parquet", HISTORY.rename(columns={"card_id": "id"}).to_dict("list"))
    mapping = {"id": "card_id", "spent": "count", "count": "spent"}
    source = file_source(path, field_mapping=mapping)
    store = repo.store()
    view = card_view("spending", source, schema=[CARD_KEY, Field(name="count", dtype=Float64)])
    return store, view


def test_pulls_take_the_sources_own_names_and_do_not_map_again(repo: OfflineRepo) -> None:
    store, view = mapped(repo)
    bounds = {"start_date": at(0), "end_date": at(2), "join_key_columns": ["id"]}
    got = pull(store, latest=True, source=view.batch_source, **bounds)
    assert got[0] == {"id": 1, "spent": 1.0, "ts": at(1), "created": at(1)}


def test_pulls_find_mapped_names_that_the_source_does_not_have(repo: OfflineRepo) -> None:
    store, view = mapped(repo)
    bounds = {"start_date": at(0), "end_date": at(2), "join_key_columns": ["card_id"]}
    got = pull(store, latest=True, source=view.batch_source, **bounds)
    assert got[0] == {"card_id": 1, "spent": 1.0, "ts": at(1), "created": at(1)}


def test_materialized_rows_are_the_latest_of_the_interval(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
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
    assert store.get_online_features(["all_cards:spent"], [{}]).to_dict()["spent"] == [3.5]


def saved(store: FeatureStore, path: str, *, allow_overwrite: bool = False) -> None:
    frame = pd.DataFrame({"card_id": [2, 1], "event_timestamp": [at(9), at(9)]})
    job = store.get_historical_features(frame, ["spending:spent"])
    file_format = DeltaFormat() if path.startswith("lake/") else None
    storage = SavedDatasetFileStorage(path=path, **({"file_format": file_format} if file_format else {}))
    job.persist(storage, allow_overwrite=allow_overwrite)


@pytest.mark.parametrize("path", ["saved/set.parquet", "saved/folder", "lake/set"])
def test_a_result_is_saved_below_the_repository_and_only_overwritten_with_leave(
    repo: OfflineRepo, path: str
) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    saved(store, path)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        saved(store, path)
    saved(store, path, allow_overwrite=True)
    target = repo.folder / path
    found = DeltaTable(target).to_pandas() if path.startswith("lake/") else pd.read_parquet(target)
    assert found["spent"].tolist() == [2.0, 3.5]


def test_an_empty_folder_may_be_saved_to(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    (repo.folder / "saved").mkdir()
    saved(store, "saved")
    assert pd.read_parquet(repo.folder / "saved")["spent"].tolist() == [2.0, 3.5]


@pytest.mark.filterwarnings("ignore:Saving dataset is an experimental feature:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Retrieving datasets is an experimental feature:RuntimeWarning")
def test_a_saved_dataset_can_be_read_again(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    frame = pd.DataFrame({"card_id": [2, 1], "event_timestamp": [at(8), at(9)]})
    job = store.get_historical_features(frame, ["spending:spent"], full_feature_names=True)
    store.create_saved_dataset(job, name="set", storage=SavedDatasetFileStorage(path="saved/set.parquet"))
    got = store.get_saved_dataset("set").to_df().sort_values("card_id")
    assert got["spending__spent"].tolist() == [3.5, 2.0]


@pytest.mark.parametrize("kind", ["file", "folder", "delta"])
def test_rows_are_appended_in_the_types_of_the_source(repo: OfflineRepo, kind: str) -> None:
    path = {"file": "data/spending.parquet", "folder": "data/spending", "delta": "lake/spending"}[kind]
    target = repo.folder / path
    if kind == "delta":
        write_deltalake(target, arrow(HISTORY))
    else:
        (target if kind == "folder" else target.parent).mkdir(parents=True)
        HISTORY.to_parquet(target / "one.parquet" if kind == "folder" else target)
    store = spending(repo, path)
    store.write_to_offline_store(
        "spending", rows((1, at(6), at(6), 6, 6))[["count", "spent", "created", "ts", "card_id"]]
    )
    assert spent(store, 1, 2) == [6.0, 2.0]
    found = DeltaTable(target).to_pandas() if kind == "delta" else pd.read_parquet(target)
    assert len(found) == 5
    assert found["spent"].dtype == "float64"


def test_rows_with_other_columns_are_refused_and_nothing_is_written(repo: OfflineRepo) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    view = store.get_feature_view("spending")
    offline = store._get_provider().offline_store
    for wrong in (HISTORY.drop(columns="count"), HISTORY[["count", "spent", "created", "ts", "card_id"]]):
        with pytest.raises(ValueError, match="nothing was written"):
            offline.offline_write_batch(store.config, view, pa.Table.from_pandas(wrong), None)
    assert len(pd.read_parquet(repo.folder / "data" / "spending.parquet")) == 4


@pytest.mark.parametrize("as_path", [False, True], ids=["a table", "a folder of Parquet"])
@pytest.mark.parametrize("partition_by", [None, ["request_id"]], ids=["plain", "partitioned"])
def test_logged_features_are_added_and_read_again(
    repo: OfflineRepo, as_path: bool, partition_by: list[str] | None
) -> None:
    store = spending(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    destination = FileLoggingDestination(path="logs", partition_by=partition_by)
    service = FeatureService(
        name="scoring",
        features=[store.get_feature_view("spending")],
        logging_config=LoggingConfig(destination),
    )
    store.apply([service])
    for hour in (1, 2):
        logs = pa.table(
            {"card_id": [1, 2], "__log_timestamp": [at(hour), at(hour)], "request_id": ["a", "b"]}
        )
        if as_path:
            pq.write_to_dataset(logs, repo.folder / f"chunk{hour}")
        store.write_logged_features(repo.folder / f"chunk{hour}" if as_path else logs, service)
    offline = store._get_provider().offline_store
    got = offline.pull_all_from_table_or_query(
        store.config,
        destination.to_data_source(),
        [],
        ["card_id", "request_id"],
        "__log_timestamp",
        None,
        at(2),
        at(3),
    )
    assert sorted(got.to_df()["request_id"]) == ["a", "b"]
    assert os.listdir() == []  # nothing went to the working directory
