"""A small Feast repository with our offline store, for tests that read features through a real FeatureStore."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

_numbers = count()
CARD = Entity(name="card", join_keys=["card_id"], value_type=ValueType.INT64)
SHOP = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)
CARD_KEY = Field(name="card_id", dtype=Int64)
SHOP_KEY = Field(name="shop_id", dtype=String)
SPENT = Field(name="spent", dtype=Float64)
COUNT = Field(name="count", dtype=Int64)


def at(hours: float, *, micros: int = 0) -> pd.Timestamp:
    """A moment: hours (and microseconds) after the start of 2024."""
    return (
        pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(hours=hours) + pd.Timedelta(microseconds=micros)
    )


@dataclass(frozen=True)
class OfflineRepo:
    """A folder that is a Feast repository, with a SQL registry and an SQLite online store.

    Each has a project of its own: Feast's caches know a SQL registry by its address in memory and the project, and an
    address is given again.
    """

    folder: Path
    project: str = field(default_factory=lambda: f"offline{next(_numbers)}")

    def store(self, *, versions: bool = False, **offline_store: Any) -> FeatureStore:
        """The repository's FeatureStore, with these settings of the offline store; can keep versions of views."""
        kind = "ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore"
        config = {
            "project": self.project,
            "provider": "local",
            "registry": {
                "registry_type": "sql",
                "path": f"sqlite:///{self.folder}/registry.db",
                "enable_online_feature_view_versioning": versions,
            },
            "online_store": {"type": "sqlite", "path": str(self.folder / "online.db")},
            "offline_store": {"type": kind, "threads": 1, **offline_store},
            "entity_key_serialization_version": 3,
        }
        (self.folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
        return FeatureStore(str(self.folder))

    def write(self, name: str, rows: dict[str, Sequence[Any]]) -> str:
        """Write a Parquet file below the repository; its path relative to the repository."""
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(path)
        return f"data/{name}"

    def source(self, name: str, rows: dict[str, Sequence[Any]], **options: Any) -> FileSource:
        """A file source over the rows, with event time `ts` and created time `created` if there is one."""
        created = "created" if "created" in rows else ""
        defaults = {"timestamp_field": "ts", "created_timestamp_column": created}
        return FileSource(name=name, path=self.write(f"{name}.parquet", rows), **{**defaults, **options})


def card_view(name: str, source: FileSource, **options: Any) -> FeatureView:
    """A view of cards with a float and an integer feature."""
    defaults: dict[str, Any] = {
        "entities": [CARD],
        "schema": [CARD_KEY, SPENT, COUNT],
        "ttl": dt.timedelta(0),
    }
    return FeatureView(name=name, source=source, **{**defaults, **options})


def asked(*rows: tuple[Any, Any], **columns: list[Any]) -> pd.DataFrame:
    """An entity frame of (card, time) rows with further columns."""
    cards, times = [row[0] for row in rows], [row[1] for row in rows]
    return pd.DataFrame({"card_id": pd.array(cards, dtype="Int64"), "event_timestamp": times, **columns})


def card_store(repo: OfflineRepo, rows: list[tuple[Any, ...]], **options: Any) -> FeatureStore:
    """A store with the view `spending` over (card, ts, created, spent, count) rows."""
    names = ("card_id", "ts", "created", "spent", "count")
    columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    store = repo.store(known_at=options.pop("known_at", False))
    store.apply([CARD, card_view("spending", repo.source("spending", columns), **options)])
    return store


def answers(store: FeatureStore, *rows: tuple[Any, Any], **how: Any) -> list[float | None]:
    """The answers for (card, time) rows, None where there is none."""
    job = store.get_historical_features(asked(*rows), ["spending:spent"], **how)
    return job.to_arrow().column("spent").to_pylist()


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


def file_store(repo: OfflineRepo, path: str, **offline_store: Any) -> FeatureStore:
    """A store with the view `spending` over whatever is at the path."""
    store = repo.store(**offline_store)
    store.apply([CARD, card_view("spending", file_source(path))])
    return store


def file_source(path: str, **options: Any) -> FileSource:
    """A source with the columns of HISTORY."""
    return FileSource(
        name="spending", path=path, timestamp_field="ts", created_timestamp_column="created", **options
    )


def answers_at(store: FeatureStore, *cards: int, hour: float = 9) -> list[float | None]:
    """`spending:spent` of each card at an hour."""
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
