"""Builds and reads training sets: rows from the lake through Feast, a manifest that can rebuild them."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.features.store import EventDays, entity_rows_sql, service_rows
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import source_digest
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import PARTITION_COLUMN, complete_at, day, day_range, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import Publication, publish_days, published
from ml_platform.lake.tables import Lake
from ml_platform.sources.compute import latest_versions_sql
from ml_platform.sources.spec import EVENT_TIME
from ml_platform.training_sets.spec import TrainingSetSpec

SPLIT, LABEL = "split", "label"


@dataclass(frozen=True)
class Built:
    """One built training set: rows ordered by time and id, and what they were built from."""

    rows: pa.Table
    without_label: int
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Arrays:
    """A split as a model takes it: float32 features (n, k), int64 labels (n,), event ids (n,)."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]


def build(settings: Settings, spec: TrainingSetSpec, catalog: Catalog, partition: str) -> Built:
    """The training set of a partition: events, labels and features as known at the midnight that ends it."""
    lake = Lake(settings.lake_uri)
    service = spec.service(catalog)
    versions = input_versions(spec, catalog, lake)
    split = spec.split(day(partition), catalog)
    labelled = _labelled_sql(spec, catalog, lake, partition, versions)
    test_from, gap_from = f"DATE '{split.test[0]}'", f"DATE '{split.gap[0]}'"
    side = f"CASE WHEN {PARTITION_COLUMN} >= {test_from} THEN 'test' ELSE 'train' END AS {SPLIT}"
    inside = f"({PARTITION_COLUMN} >= {test_from} OR {PARTITION_COLUMN} < {gap_from})"
    event_id = service.source_spec(catalog).event_id
    with connect(settings) as connection:
        counted = f"SELECT count(*) FROM ({labelled}) WHERE {LABEL} IS NULL AND {inside}"
        without_label = connection.execute(counted).fetchall()[0][0]
    entity_rows = (
        f"SELECT * EXCLUDE ({PARTITION_COLUMN}), {side} FROM ({labelled}) "
        f"WHERE {LABEL} IS NOT NULL AND {inside} ORDER BY {EVENT_TIME}, {event_id}"
    )
    pinned = {view.key: versions[view.key] for view in service.view_specs(catalog)}
    names = service.feature_names(catalog)
    batches = service_rows(settings, catalog, service, entity_rows, versions=pinned)
    rows = pa.Table.from_batches(batches).select([event_id, EVENT_TIME, SPLIT, LABEL, *names])
    return Built(
        rows, without_label, _manifest(spec, catalog, lake, partition, rows, versions, without_label)
    )


def input_versions(spec: TrainingSetSpec, catalog: Catalog, lake: Lake) -> dict[str, int]:
    """The table version of every input, pinned before anything is read."""
    service = spec.service(catalog)
    assets = [service.source_spec(catalog).key, spec.label_source(catalog).key]
    assets += [view.key for view in service.view_specs(catalog)]
    found = {asset: lake.table(asset).version() for asset in assets}
    missing = sorted(asset for asset, version in found.items() if version is None)
    if missing:
        raise StoreError(
            f"{spec.key}: published rows of {missing} are required and there are none; materialize them"
        )
    return {asset: version for asset, version in found.items() if version is not None}


def time_between_splits(rows: pa.Table) -> dt.timedelta | None:
    """From the last train row to the first test row; negative when they overlap, None when a split is empty."""
    times = {
        side: rows.filter(pc.field(SPLIT) == side).column(EVENT_TIME).to_pylist()
        for side in ("train", "test")
    }
    if not all(times.values()):
        return None
    return min(times["test"]) - max(times["train"])


def daily_label_counts(
    settings: Settings, spec: TrainingSetSpec, catalog: Catalog, partition: str
) -> list[tuple[str, int, int]]:
    """Day, positives and rows of every matured day up to a partition's newest, as known at its midnight."""
    lake = Lake(settings.lake_uri)
    labels = spec.label_source(catalog)
    last = key_of(spec.split(day(partition), catalog).test[1])
    scan = lake.table(labels.key).scan(where=[(PARTITION_COLUMN, "<=", last)])
    known = latest_versions_sql(labels, scan, known_by=_cut(partition))
    query = (
        f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), CAST(sum({spec.label}) AS BIGINT), count(*) "
        f"FROM ({known}) WHERE {spec.label} IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    with connect(settings) as connection:
        return connection.execute(query).fetchall()


def write(lake: Lake, partition: str, built: Built, publication: Publication, lineage: Lineage) -> None:
    """Keep a built set's manifest, then publish its rows: the manifest of a published content is always there."""
    content = built.manifest["content_hash"]
    manifest = pa.table(
        {
            "manifest": pa.array([json.dumps(built.manifest, sort_keys=True)]),
            "content_hash": pa.array([content]),
            PARTITION_COLUMN: pa.array([day(partition)], pa.date32()),
        }
    )
    lake.table(f"{publication.asset}_manifests").replace(
        manifest, predicate=f"{PARTITION_COLUMN} = '{partition}' AND content_hash = '{content}'"
    )
    days = pa.array([day(partition)] * built.rows.num_rows, pa.date32())
    publish_days(lake, built.rows.append_column(PARTITION_COLUMN, days), [publication], lineage)


def read_manifest(settings: Settings, spec: TrainingSetSpec, partition: str) -> dict[str, Any]:
    """The manifest of a published partition."""
    lake = Lake(settings.lake_uri)
    publication = published(lake, spec.key).get(partition)
    if publication is None:
        raise StoreError(f"{spec.key} [{partition}]: a built training set is required; materialize it first")
    scan = lake.table(f"{spec.key}_manifests").scan(where=[(PARTITION_COLUMN, "=", partition)])
    with connect(settings) as connection:
        found = connection.execute(
            f"SELECT manifest FROM ({scan}) WHERE content_hash = '{publication.content_hash}'"
        ).fetchall()
    if not found:
        raise StoreError(
            f"{spec.key} [{partition}]: the manifest of content {publication.content_hash} is required and is not "
            f"there; materialize the training set again"
        )
    return json.loads(found[0][0])


def read_arrays(
    settings: Settings, spec: TrainingSetSpec, partition: str, manifest: Mapping[str, Any]
) -> dict[str, Arrays]:
    """Train and test arrays of a built partition, checked against the manifest's content hash."""
    scan = Lake(settings.lake_uri).table(spec.key).scan(where=[(PARTITION_COLUMN, "=", partition)])
    columns = ", ".join(f'"{name}"' for name in manifest["columns"])
    with connect(settings) as connection:
        rows = connection.sql(
            f'SELECT {columns} FROM ({scan}) ORDER BY {EVENT_TIME}, "{manifest["columns"][0]}"'
        ).to_arrow_table()
    found = content_hash(rows)
    if found != manifest["content_hash"]:
        raise StoreError(
            f"{spec.key} [{partition}]: rows with content hash {manifest['content_hash']} are required by the "
            f"manifest; the table has {found}. Nothing was trained; materialize the training set again"
        )
    names = tuple(manifest["features"])
    sides = rows.column(SPLIT).to_numpy()
    features = np.column_stack([rows.column(name).to_numpy() for name in names]).astype(np.float32)
    labels = rows.column(LABEL).to_numpy().astype(np.int64)
    return {side: Arrays(features[sides == side], labels[sides == side], names) for side in ("train", "test")}


def _labelled_sql(
    spec: TrainingSetSpec, catalog: Catalog, lake: Lake, partition: str, versions: Mapping[str, int]
) -> str:
    """SQL of the events of the set's days with their label as known at the cut, null while unknown."""
    service, labels = spec.service(catalog), spec.label_source(catalog)
    split = spec.split(day(partition), catalog)
    source = service.source_spec(catalog)
    days = EventDays(
        first=key_of(split.train[0]),
        last=key_of(split.test[1]),
        version=versions[source.key],
        known_by=_cut(partition),
    )
    where = [(PARTITION_COLUMN, ">=", days.first), (PARTITION_COLUMN, "<=", days.last)]
    scan = lake.table(labels.key).scan(version=versions[labels.key], where=where)
    known = latest_versions_sql(labels, scan, known_by=days.known_by)
    events = entity_rows_sql(service, catalog, lake, days)
    return (
        f'SELECT e.*, CAST(l."{spec.label}" AS BIGINT) AS {LABEL} FROM ({events}) e '
        f'LEFT JOIN (SELECT "{labels.event_id}", "{spec.label}" FROM ({known})) l '
        f'ON e."{source.event_id}" = l."{labels.event_id}"'
    )


def _manifest(
    spec: TrainingSetSpec,
    catalog: Catalog,
    lake: Lake,
    partition: str,
    rows: pa.Table,
    versions: Mapping[str, int],
    without_label: int,
) -> dict[str, Any]:
    service = spec.service(catalog)
    split = spec.split(day(partition), catalog)
    node = spec.nodes(catalog)[0]
    return {
        "training_set": spec.name,
        "partition": partition,
        "known_at": _cut(partition),
        "declarations": declaration_digests(spec, catalog),
        "split": {name: [key_of(d) for d in getattr(split, name)] for name in ("train", "gap", "test")},
        "inputs": [
            _input(lake, catalog, upstream.key, versions, (day(partition), upstream.first, upstream.last))
            for upstream in node.upstream
        ],
        "columns": rows.column_names,
        "features": service.feature_names(catalog),
        "rows": {side: _count(rows, side) for side in ("train", "test")},
        "rows_without_label": without_label,
        "content_hash": content_hash(rows),
    }


def declaration_digests(spec: TrainingSetSpec, catalog: Catalog) -> dict[str, str]:
    """Digest of every declaration, and of every on-demand function's source, that decides the rows' values."""
    service = spec.service(catalog)
    declared: Sequence[Any] = [
        spec,
        service,
        *service.view_specs(catalog),
        *service.on_demand_specs(catalog),
        service.source_spec(catalog),
        spec.label_source(catalog),
    ]
    digests = {f"{type(d).__name__.removesuffix('Spec')}/{d.name}": d.digest() for d in declared}
    functions = {d.function: source_digest(d.function) for d in service.on_demand_specs(catalog)}
    return {**digests, **functions}


def _input(
    lake: Lake, catalog: Catalog, asset: str, versions: Mapping[str, int], window: tuple[Any, int, int]
) -> dict[str, Any]:
    """One input as the manifest names it: table version, data files, and the content of each day read."""
    at, first, last = window
    clipped = catalog.node(asset).clip((at + dt.timedelta(days=first), at + dt.timedelta(days=last)))
    days = [key_of(d) for d in day_range(*clipped)] if clipped else []
    where = [(PARTITION_COLUMN, ">=", days[0]), (PARTITION_COLUMN, "<=", days[-1])] if days else []
    root = f"{lake.root.rstrip('/')}/"
    known = published(lake, asset)
    return {
        "asset": asset,
        "table_version": versions[asset],
        "files": [
            f.removeprefix(root) for f in lake.table(asset).files(version=versions[asset], where=where)
        ],
        "partitions": {key: known[key].content_hash for key in days if key in known},
    }


def _count(rows: pa.Table, side: str) -> dict[str, int]:
    chosen = rows.filter(pc.field(SPLIT) == side)
    positives = pc.sum(chosen.column(LABEL)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return {"rows": chosen.num_rows, "positives": int(positives)}


def _cut(partition: str) -> str:
    """The midnight that ends a partition, as SQL text."""
    return complete_at(partition).isoformat(sep=" ")
