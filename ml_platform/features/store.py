"""Reads and writes of Feast: its stores from our settings, and the point-in-time rows of a feature service."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import SecretStr

from ml_platform.features.feast_import import load_feast
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import PARTITION_COLUMN, day, within
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.sources.compute import day_sql, latest_versions_sql
from ml_platform.sources.spec import EVENT_TIME

if TYPE_CHECKING:
    from feast import FeatureStore

OFFLINE_STORE = "ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore"
REDIS_ONLINE_STORE = "ml_platform.features.online_store.RedisSnapshotOnlineStore"
_PATIENCE = 10  # seconds that Redis may take to answer where no request waits for it


def store_config(settings: Settings) -> dict[str, Any]:
    """What `feature_store.yaml` says, for the stores that the settings name."""
    return {
        "project": settings.project,
        "provider": "local",
        "registry": {"registry_type": "sql", "path": settings.registry_url, "cache_ttl_seconds": 60},
        "offline_store": {"type": OFFLINE_STORE, "known_at": True},
        "online_store": _online_store(settings),
        "entity_key_serialization_version": 3,
    }


def feature_store(settings: Settings) -> "FeatureStore":
    """The Feast feature store of this environment: shared registry, online store, our offline store.

    It waits longer for Redis than a request may.
    """
    load_feast()
    from feast import FeatureStore, RepoConfig

    config = store_config(settings)
    config["offline_store"] |= _limits(settings)
    if settings.redis_url:
        config["online_store"] |= {"timeout_seconds": _PATIENCE}
    return FeatureStore(config=RepoConfig(**config, repo_path=settings.declared_in.root / "feature_repo"))


@contextmanager
def declared_store(
    settings: Settings,
    catalog: Catalog,
    *,
    versions: Mapping[str, int],
    files: Mapping[str, Sequence[str]] | None = None,
) -> Iterator["FeatureStore"]:
    """A feature store over a throw-away registry with exactly the given declarations, at pinned table versions.

    What is computed follows from the declarations at hand, whatever somebody applied to the shared registry.
    Of the assets that `files` names, only those data files are read.
    """
    load_feast()
    from feast import FeatureStore, RepoConfig

    from ml_platform.features.feast_objects import feast_objects

    lake = Lake(settings.lake_uri)
    pinned = {lake.table(asset).uri: version for asset, version in versions.items()}
    named = {lake.table(asset).uri: list(found) for asset, found in (files or {}).items()}
    with tempfile.TemporaryDirectory(prefix="feast-") as folder:
        config = store_config(settings) | {"registry": {"path": f"{folder}/registry.db"}}
        config["offline_store"] |= _limits(settings) | {"table_versions": pinned, "table_files": named}
        store = FeatureStore(config=RepoConfig(**config, repo_path=Path(folder)))
        with quiet_feast():
            store.apply(feast_objects(catalog, lake))
        yield store


def service_rows(
    settings: Settings,
    catalog: Catalog,
    service: FeatureServiceSpec,
    entity_rows: str,
    *,
    versions: Mapping[str, int],
    files: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The service's features for entity rows, as known at each row's time; batches in the rows' order.

    `entity_rows` is SQL with the join keys, `event_timestamp`, the service's request fields and any columns to
    carry along. Features are float32, null (NaN) where there was no value; columns: carried, then features.
    Without entity rows there is one empty batch, so that columns and types are always known. Feature tables are
    read at the given versions, and of those that `files` names only these data files.
    """
    names = service.feature_names(catalog)
    with declared_store(settings, catalog, versions=versions, files=files) as store:
        job = store.get_historical_features(
            entity_df=entity_rows, features=store.get_feature_service(service.name)
        )
        rows = job.to_arrow_reader()  # pyright: ignore[reportAttributeAccessIssue]
        first = next(rows, pa.RecordBatch.from_pylist([], schema=rows.schema))
        for batch in chain([first], rows):
            yield with_on_demand(batch, service, catalog, names)


def with_on_demand(
    batch: pa.RecordBatch, service: FeatureServiceSpec, catalog: Catalog, names: Sequence[str]
) -> pa.RecordBatch:
    """The batch with on-demand features computed, and every model feature as float32, in contract order."""
    from ml_platform.features.feast_objects import on_demand_function

    columns = {name: batch.column(name) for name in batch.schema.names}
    for spec in service.on_demand_specs(catalog):
        inputs = [*spec.request, *_features_of(spec.views, catalog)]
        given = {name: columns[name].to_numpy(zero_copy_only=False) for name in inputs}
        computed = on_demand_function(spec)(given)
        columns |= {name: pa.array(computed[name], pa.float64()) for name in spec.outputs}
    carried = [name for name in batch.schema.names if name not in names]
    arrays = [columns[name] for name in carried]
    arrays += [columns[name].cast(pa.float32(), safe=False) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=[*carried, *names])


@dataclass(frozen=True)
class EventDays:
    """Which events to read: their days, the source's table version, and by when they were known.

    Without `known_by` each event is read as known when its own day was complete. `files` names the data files
    of the days, as URIs, where they must be these.
    """

    first: str
    last: str
    version: int | None = None
    known_by: str | None = None
    files: tuple[str, ...] | None = None


def entity_rows_sql(service: FeatureServiceSpec, catalog: Catalog, lake: Lake, days: EventDays) -> str:
    """SQL of the events of days for a service: id, join keys, time, request fields, partition day."""
    source = service.source_spec(catalog)
    read = source.cadence.of_days(day(days.first), day(days.last))
    scan = lake.table(source.key).at(days.version).scan(days.files, where=within(read))
    versions = latest_versions_sql(source, scan, known_by=days.known_by)
    keys = [key for view in service.view_specs(catalog) for key in view.entity_keys]
    columns = {name: f'"{name}"' for name in (source.event_id, *keys, EVENT_TIME)}
    columns |= {
        name: f'CAST({field.sql or name} AS {SQL_TYPES[field.type]}) AS "{name}"'
        for name, field in service.request_fields(catalog).items()
    }
    listed = [*columns.values(), f"{day_sql(source)} AS {PARTITION_COLUMN}"]
    return f"SELECT {', '.join(listed)} FROM ({versions})"


def feature_versions(catalog: Catalog, service: FeatureServiceSpec, lake: Lake) -> dict[str, int]:
    """The newest version of each feature table that a service reads, to pin what one step sees."""
    found = {view.key: lake.table(view.key).version() for view in service.view_specs(catalog)}
    return {asset: version for asset, version in found.items() if version is not None}


@contextmanager
def quiet_feast() -> Iterator[None]:
    """Keep Feast's printed progress out of a step's log."""
    logger = logging.getLogger("feast")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "On demand feature view is an experimental", RuntimeWarning)
            yield
    finally:
        logger.setLevel(level)


def _features_of(views: Sequence[str], catalog: Catalog) -> list[str]:
    specs = [catalog.get(FeatureViewSpec, name, wanted_by="on-demand features") for name in views]
    return [feature.name for spec in specs for feature in spec.features(catalog)]


def _online_store(settings: Settings) -> dict[str, Any]:
    if not settings.redis_url:
        return {"type": "sqlite", "path": str(settings.online_store_path)}
    return {
        "type": REDIS_ONLINE_STORE,
        "url": SecretStr(settings.redis_url),
        "timeout_seconds": settings.serving.online_timeout_seconds,
        "max_connections": max(64, 2 * settings.serving.threads),
    }


def _limits(settings: Settings) -> dict[str, Any]:
    return {"memory_limit": settings.memory_limit, "temp_directory": str(settings.spill_folder)}


SQL_TYPES = {
    "int64": "BIGINT",
    "double": "DOUBLE",
    "float": "FLOAT",
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
}
