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

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import PARTITION_COLUMN, day, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import Publication, publish_partitions, published
from ml_platform.lake.tables import Lake
from ml_platform.sources.compute import day_sql, latest_versions_sql
from ml_platform.sources.spec import EVENT_TIME
from ml_platform.training_sets.assembly import assemble, known_at
from ml_platform.training_sets.compute import LABEL, SPLIT, TEST, TRAIN
from ml_platform.training_sets.label_drift import DayCount, DaySums
from ml_platform.training_sets.manifest import (
    code,
    published_inputs,
    recipe,
    recorded_catalog,
    recorded_inputs,
    require_files,
)
from ml_platform.training_sets.spec import Task, TrainingSetSpec


@dataclass(frozen=True)
class Built:
    """One built training set: rows ordered by time and id, and what they were built from."""

    rows: pa.Table
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Rebuilt:
    """A set built again from its manifest, and what of the code is not what it was."""

    rows: pa.Table
    recorded: str
    content_hash: str
    other_code: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether the rows are those that were recorded."""
        return self.content_hash == self.recorded


@dataclass(frozen=True)
class Arrays:
    """A split as a model takes it, row by row in order of time.

    Float32 features (n, k), labels (n,) that are int64 classes or float64 numbers, the day of each row's event, and
    for each entity by name which one a row is about: int64 (n,), numbered in the order of its ids, -1 for none.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64 | np.float64]
    names: tuple[str, ...]
    days: npt.NDArray[np.datetime64]
    entities: Mapping[str, npt.NDArray[np.int64]]


def build(settings: Settings, spec: TrainingSetSpec, catalog: Catalog, partition: str) -> Built:
    """The training set of a partition, from what is published now: as known at the midnight that ends it."""
    lake = Lake(settings.lake_uri)
    inputs = published_inputs(spec, catalog, lake, partition)
    assembled = assemble(settings, spec, catalog, partition, inputs)
    service, split = spec.service(catalog), spec.split(day(partition), catalog)
    manifest = {
        "training_set": spec.name,
        "partition": partition,
        "known_at": known_at(partition),
        "split": {name: [key_of(d) for d in getattr(split, name)] for name in ("train", "gap", "test")},
        **recipe(settings, spec, catalog, inputs),
        "columns": assembled.rows.column_names,
        "entities": spec.entities(catalog),
        "features": service.feature_names(catalog),
        "rows": {side: _count(assembled.rows, side, spec.task(catalog)) for side in (TRAIN, TEST)},
        **{f"rows_{reason}": count for reason, count in assembled.left_out.items()},
        "content_hash": content_hash(assembled.rows),
    }
    return Built(assembled.rows, manifest)


def rebuild(settings: Settings, manifest: Mapping[str, Any]) -> Rebuilt:
    """The training set that a manifest describes, with the declarations, functions and files of then.

    What was published, declared or applied since does not matter. Runs on-demand functions from the manifest's
    text where they have changed (see `recorded_functions`). Raises StoreError for a manifest without
    declarations, and for a file that is missing or was changed, before anything is computed.
    """
    with recorded_catalog(manifest) as catalog:
        require_files(settings, manifest)
        spec = catalog.get(TrainingSetSpec, manifest["training_set"], wanted_by="the manifest")
        inputs = recorded_inputs(manifest)
        rows = assemble(settings, spec, catalog, manifest["partition"], inputs).rows
    rows = rows.select(manifest["columns"])  # JSON need not keep the order of what is declared by name
    then, now = manifest["code"], code()
    other = tuple(sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)))
    return Rebuilt(rows, manifest["content_hash"], content_hash(rows), other)


def time_between_splits(rows: pa.Table) -> dt.timedelta | None:
    """From the last train row to the first test row; negative when they overlap, None when a split is empty."""
    times = {
        side: rows.filter(pc.field(SPLIT) == side).column(EVENT_TIME).to_pylist()
        for side in ("train", "test")
    }
    if not all(times.values()):
        return None
    return min(times["test"]) - max(times["train"])


def daily_labels(
    settings: Settings, spec: TrainingSetSpec, catalog: Catalog, partition: str
) -> list[DayCount] | list[DaySums]:
    """The labels of every matured day up to a partition's newest, as known at its midnight.

    Sums of numbers are of six decimals, which add up to the same in any order.
    """
    lake = Lake(settings.lake_uri)
    labels = spec.label_source(catalog)
    last = key_of(spec.split(day(partition), catalog).test[1])
    _, newest = labels.cadence.covering((last, last))
    scan = lake.table(labels.key).scan(where=[(labels.cadence.column, "<=", newest)])
    known = latest_versions_sql(labels, scan, known_by=known_at(partition))
    numbers = spec.task(catalog) == "regression"
    total = (
        f"CAST(sum(CAST({spec.label} AS DECIMAL(28, 6))) AS DOUBLE), "
        f"CAST(sum(CAST({spec.label} * {spec.label} AS DECIMAL(38, 6))) AS DOUBLE)"
        if numbers
        else f"CAST(sum({spec.label}) AS BIGINT)"
    )
    query = (
        f"SELECT CAST({day_sql(labels)} AS VARCHAR), {total}, count(*) "
        f"FROM ({known}) WHERE {spec.label} IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    with connect(settings) as connection:
        found = connection.execute(query).fetchall()
    return [DaySums(*entry) for entry in found] if numbers else [DayCount(*entry) for entry in found]


def write(lake: Lake, partition: str, built: Built, publication: Publication) -> None:
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
    publish_partitions(lake, on_day(built.rows, partition), [publication])


def on_day(rows: pa.Table, partition: str) -> pa.Table:
    """The rows of one partition as its table has them."""
    days = pa.array([day(partition)] * rows.num_rows, pa.date32())
    return rows.append_column(PARTITION_COLUMN, days)


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


def read_built(settings: Settings, spec: TrainingSetSpec, partition: str) -> Built:
    """A published set with its manifest; its rows, of which only times and splits, in no order."""
    manifest = read_manifest(settings, spec, partition)
    scan = Lake(settings.lake_uri).table(spec.key).scan(where=[(PARTITION_COLUMN, "=", partition)])
    with connect(settings) as connection:
        return Built(connection.sql(f"SELECT {EVENT_TIME}, {SPLIT} FROM ({scan})").to_arrow_table(), manifest)


def read_rows(settings: Settings, spec: TrainingSetSpec, manifest: Mapping[str, Any]) -> pa.Table:
    """The rows of a built partition in order of time and id, checked against the manifest's content hash."""
    partition = manifest["partition"]
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
    return rows


def read_arrays(settings: Settings, spec: TrainingSetSpec, manifest: Mapping[str, Any]) -> dict[str, Arrays]:
    """Train and test arrays of a built partition, checked against the manifest's content hash."""
    rows = read_rows(settings, spec, manifest)
    return {side: _arrays(rows.filter(pc.field(SPLIT) == side), manifest) for side in (TRAIN, TEST)}


def _arrays(rows: pa.Table, manifest: Mapping[str, Any]) -> Arrays:
    names = tuple(manifest["features"])
    times = rows.column(EVENT_TIME).cast(pa.timestamp("us")).to_numpy()
    return Arrays(
        features=np.column_stack([rows.column(name).to_numpy() for name in names]).astype(np.float32),
        labels=rows.column(LABEL).to_numpy(),
        names=names,
        days=times.astype("datetime64[D]"),
        entities={entity: _numbers(rows, keys) for entity, keys in manifest["entities"].items()},
    )


def _numbers(rows: pa.Table, keys: Sequence[str] | str) -> npt.NDArray[np.int64]:
    """One number per combination of ids, in the order of the ids; -1 where one is missing.

    A manifest of an earlier version has one join key as text.
    """
    columns = [rows.column(key).combine_chunks() for key in ([keys] if isinstance(keys, str) else keys)]
    found, *others = map(_ranks, columns)
    for other in others:
        found = _ranks(pa.array(found * (other.max(initial=0) + 1) + other))
    missing = np.any([ids.is_null().to_numpy(zero_copy_only=False) for ids in columns], axis=0)
    return np.where(missing, -1, found)


def _ranks(values: pa.Array) -> npt.NDArray[np.int64]:
    """From 1 on, in the order of the values; equal ones share one."""
    ranks = pc.call_function("rank", [values], pc.RankOptions(tiebreaker="dense"))
    return ranks.to_numpy().astype(np.int64)


def _count(rows: pa.Table, side: str, task: Task) -> dict[str, int]:
    chosen = rows.filter(pc.field(SPLIT) == side)
    if task == "regression":
        return {"rows": chosen.num_rows}
    positives = pc.sum(chosen.column(LABEL)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return {"rows": chosen.num_rows, "positives": int(positives)}
