"""Publishes a snapshot to Feast's online store, newest first and once; reads some of it back.

Order is kept where it can be: publishers of one home wait for each other, which is all that can reach an embedded
store. Those of a cluster share a Redis and no disk: Redis itself keeps a row whose time is later, and who has written
looks again whether it was the newest that is published.
"""

import datetime as dt
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from filelock import FileLock

from ml_platform.features.feast_import import load_feast
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.store import feature_store, quiet_feast
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.partitions import EVENT_TIME, complete_at, within
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import Ledger, history
from ml_platform.lake.tables import Lake

ONLINE_PUBLICATIONS = Ledger(
    "online_publications",
    {"view": pa.string(), "partition": pa.string(), "content_hash": pa.string(), "run_id": pa.string()},
)


@dataclass(frozen=True)
class ReadBack:
    """What the online store answered for some keys, against what was published."""

    keys: int
    mismatches: int


def apply_registry(settings: Settings, catalog: Catalog) -> dict[str, int]:
    """Make Feast's registry say what is declared; the count of objects by kind."""
    load_feast()
    from ml_platform.features.feast_objects import feast_objects

    objects = feast_objects(catalog, Lake(settings.lake_uri))
    with quiet_feast(), _answering():
        feature_store(settings).apply(objects, partial=False, objects_to_delete=_gone(settings, objects))
        if settings.redis_url is None:
            _readable_while_written(settings)
    return dict(Counter(_kind(found) for found in objects))


def newest_online(lake: Lake, view: str) -> Mapping[str, Any] | None:
    """The ledger entry of the snapshot that the online store holds, or None."""
    entries = [entry for entry in ONLINE_PUBLICATIONS.entries(lake) if entry["view"] == view]
    return max(entries, key=lambda entry: (entry["partition"], entry["recorded_at"]), default=None)


def applied_declarations(settings: Settings) -> dict[str, str]:
    """Digest of the declaration of every feature view that Feast's registry holds, by name."""
    with quiet_feast():
        views = feature_store(settings).list_feature_views()
    return {view.name: view.tags.get("declaration", "") for view in views}


def published_declarations(lake: Lake, spec: FeatureViewSpec) -> set[str]:
    """Digests of the declarations under which what the online store holds of a view was computed.

    More than one where a view was declared otherwise and its rows came out the same; none when nothing is online.
    """
    online = newest_online(lake, spec.name)
    if online is None:
        return set()
    wanted = (online["partition"], online["content_hash"])
    return {
        made.declaration
        for made in history(lake, [spec.key])
        if (made.partition, made.content_hash) == wanted
    }


@contextmanager
def publishing(settings: Settings, view: str) -> Iterator[None]:
    """One at a time: nobody else of this home publishes a view online until the end of the block."""
    with FileLock(settings.root / "locks" / f"online-{view}"):
        yield


def publish_snapshot(
    settings: Settings, spec: FeatureViewSpec, partition: str, *, content_hash: str, run_id: str
) -> None:
    """Write one published snapshot to the online store, then to the ledger."""
    at = complete_at(partition)
    with quiet_feast(), _answering():
        feature_store(settings).materialize(
            start_date=at, end_date=at, feature_views=[spec.name], disable_event_timestamp=False
        )
    entry = {"view": spec.name, "partition": partition, "content_hash": content_hash, "run_id": run_id}
    ONLINE_PUBLICATIONS.append(Lake(settings.lake_uri), [entry])


def read_back(
    settings: Settings, spec: FeatureViewSpec, catalog: Catalog, partition: str, *, sample: int = 100
) -> ReadBack:
    """Compare a sample of keys of a snapshot with what the online store answers for them."""
    names = [feature.name for feature in spec.features(catalog)]
    table = Lake(settings.lake_uri).table(spec.key)
    rows = table.scan(where=within((partition, partition)))
    with connect(settings) as connection:
        wanted = connection.sql(
            f"SELECT * FROM ({rows}) ORDER BY hash({', '.join(spec.entity_keys)}) LIMIT {sample}"
        ).to_arrow_table()
    if wanted.num_rows == 0:
        return ReadBack(0, 0)
    with _answering():
        answer = feature_store(settings).get_online_features(
            features=[f"{spec.name}:{name}" for name in names],
            entity_rows=wanted.select(list(spec.entity_keys)).to_pylist(),
        )
    answered = answer.to_dict()
    mismatches = sum(
        1
        for i in range(wanted.num_rows)
        if any(wanted.column(name)[i].as_py() != answered[name][i] for name in names)
    )
    return ReadBack(wanted.num_rows, mismatches)


def online_row(settings: Settings, view: str, key: Mapping[str, int | str]) -> dict[str, Any] | None:
    """What the online store has of a view for one key: its time, as ISO text in UTC, and every feature; None without.

    Features are those that were registered last, whatever is declared since. Raises InputError for a view that is not
    registered, and StoreError where the store does not answer.
    """
    from feast.errors import FeatureViewNotFoundException

    store = feature_store(settings)
    try:
        names = [field.name for field in store.get_feature_view(view).features]
    except FeatureViewNotFoundException as err:
        raise InputError(
            f"{view}: a view that is online is required; it is not. Nothing was read; declare `online: true` and bring "
            f"it online: ml-platform features publish {view}"
        ) from err
    with quiet_feast(), _answering():
        answer = store.get_online_features(
            features=[f"{view}:{name}" for name in names], entity_rows=[dict(key)]
        )
    found = answer.to_dict(include_event_timestamps=True)
    seconds = found[f"{names[0]}__ts"][0]
    if not seconds:
        return None
    time = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    return {EVENT_TIME: time, **{name: found[name][0] for name in names}}


@contextmanager
def _answering() -> Iterator[None]:
    """What the online store's client raises becomes a StoreError."""
    from redis import RedisError

    try:
        yield
    except (RedisError, sqlite3.Error) as err:
        raise StoreError(
            f"the online store is required and did not answer: {type(err).__name__}: {err}. What it has is as it was, "
            f"or newer in some rows; see that it runs and can be reached from here, then materialize again"
        ) from err


def _readable_while_written(settings: Settings) -> None:
    """Let requests be answered from the embedded store while a snapshot is written; the file remembers it."""
    with closing(sqlite3.connect(settings.online_store_path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _kind(found: Any) -> str:
    """What Feast calls the kind of an object, also where it is one of ours."""
    return next(kind.__name__ for kind in type(found).__mro__ if kind.__module__.startswith("feast."))


def _gone(settings: Settings, objects: list[Any]) -> list[Any]:
    """What is registered and no longer declared, of every kind that is declared here."""
    store = feature_store(settings)
    declared = [*objects, *_data_sources(objects)]
    registered = [
        *store.list_feature_services(),
        *store.list_on_demand_feature_views(),
        *store.list_feature_views(),
        *store.list_entities(),
        *store.list_data_sources(),
    ]
    # The registry gives back Feast's own kind of a view where a kind of ours was applied.
    return [
        found
        for found in registered
        if not any(isinstance(kept, type(found)) and kept.name == found.name for kept in declared)
    ]


def _data_sources(objects: list[Any]) -> list[Any]:
    """The data sources that Feast registers along with views."""
    from feast import FeatureView, OnDemandFeatureView

    sources = [found.batch_source for found in objects if isinstance(found, FeatureView)]
    on_demand = [found for found in objects if isinstance(found, OnDemandFeatureView)]
    return sources + [asked for found in on_demand for asked in found.source_request_sources.values()]
