"""Where rows go to: saved datasets, appended rows and logged features."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from feast import FeatureService, FeatureStore
from feast.data_format import DeltaFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage

from tests.features.offline_repo import HISTORY, OfflineRepo, answers_at, arrow, at, file_store, rows


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OfflineRepo:
    """A repository that is not the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "repository"
    folder.mkdir()
    return OfflineRepo(folder)


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
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    saved(store, path)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        saved(store, path)
    saved(store, path, allow_overwrite=True)
    target = repo.folder / path
    found = DeltaTable(target).to_pandas() if path.startswith("lake/") else pd.read_parquet(target)
    assert found["spent"].tolist() == [2.0, 3.5]


def test_an_empty_folder_may_be_saved_to(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
    (repo.folder / "saved").mkdir()
    saved(store, "saved")
    assert pd.read_parquet(repo.folder / "saved")["spent"].tolist() == [2.0, 3.5]


@pytest.mark.filterwarnings("ignore:Saving dataset is an experimental feature:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Retrieving datasets is an experimental feature:RuntimeWarning")
def test_a_saved_dataset_can_be_read_again(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
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
        file = target / "one.parquet" if kind == "folder" else target
        file.parent.mkdir(parents=True)
        HISTORY.to_parquet(file)
    store = file_store(repo, path)
    store.write_to_offline_store(
        "spending", rows((1, at(6), at(6), 6, 6))[["count", "spent", "created", "ts", "card_id"]]
    )
    assert answers_at(store, 1, 2) == [6.0, 2.0]
    found = DeltaTable(target).to_pandas() if kind == "delta" else pd.read_parquet(target)
    assert len(found) == 5
    assert found["spent"].dtype == "float64"


def test_rows_are_appended_to_their_partitions(repo: OfflineRepo) -> None:
    folder = repo.folder / "data" / "spending"
    pq.write_to_dataset(arrow(HISTORY), folder, partition_cols=["card_id"])
    store = file_store(repo, "data/spending")
    store.write_to_offline_store("spending", rows((2, at(6), at(6), 6.0, 6), (5, at(6), at(6), 5.0, 5)))
    assert answers_at(store, 1, 2, 5) == [3.5, 6.0, 5.0]
    assert len(list((folder / "card_id=2").iterdir())) == 2


def test_rows_with_other_columns_are_refused_and_nothing_is_written(repo: OfflineRepo) -> None:
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
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
    store = file_store(repo, repo.write("spending.parquet", HISTORY.to_dict("list")))
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
    assert list(Path.cwd().iterdir()) == []  # nothing went to the working directory
