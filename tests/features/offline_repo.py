"""A small Feast repository with our offline store, for tests that read features through a real FeatureStore."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

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
    """A folder that is a Feast repository, with a SQL registry and an SQLite online store."""

    folder: Path

    def store(self, **offline_store: Any) -> FeatureStore:
        """The repository's FeatureStore, with these settings of the offline store."""
        kind = "ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore"
        config = {
            "project": "offline",
            "provider": "local",
            "registry": {"registry_type": "sql", "path": f"sqlite:///{self.folder}/registry.db"},
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
