"""Puts the rows of a training set together, from pinned inputs and declarations.

Apart from `store.py`, because a set is built here whether from what is published now or from what a manifest
names: the two cannot come to differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from ml_platform.features.store import EventDays, entity_rows_sql, service_rows
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, complete_at, day, day_range, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.sources.compute import latest_versions_sql
from ml_platform.sources.spec import EVENT_TIME
from ml_platform.training_sets.compute import (
    KNOWN_POSITIVE,
    LABEL,
    SPLIT,
    TEST,
    TRAIN,
    WITHOUT_LABEL,
    known_positives_sql,
    labelled_sql,
    placed_sql,
)
from ml_platform.training_sets.manifest import Input
from ml_platform.training_sets.spec import Split, TrainingSetSpec


@dataclass(frozen=True)
class Assembled:
    """The rows of a set in order of time and id, and how many of its days' events were left out, by reason."""

    rows: pa.Table
    left_out: Mapping[str, int]


def assemble(
    settings: Settings, spec: TrainingSetSpec, catalog: Catalog, partition: str, inputs: Mapping[str, Input]
) -> Assembled:
    """The rows of a partition from pinned inputs: the one way to build a set, now or again."""
    lake = Lake(settings.lake_uri)
    service = spec.service(catalog)
    event_id = service.source_spec(catalog).event_id
    placed = _placed_sql(spec, catalog, lake, partition, inputs)
    with connect(settings) as connection:
        counted = connection.execute(f"SELECT {SPLIT}, count(*) FROM ({placed}) GROUP BY 1").fetchall()
    entity_rows = (
        f"SELECT * EXCLUDE ({PARTITION_COLUMN}) FROM ({placed}) WHERE {SPLIT} IN ('{TRAIN}', '{TEST}') "
        f'ORDER BY {EVENT_TIME}, "{event_id}"'
    )
    views = [inputs[view.key] for view in service.view_specs(catalog)]
    batches = service_rows(
        settings,
        catalog,
        service,
        entity_rows,
        versions={view.asset: view.table_version for view in views},
        files={view.asset: view.uris(lake) for view in views},
    )
    columns = [
        event_id,
        *spec.keys_carried(catalog),
        EVENT_TIME,
        SPLIT,
        LABEL,
        *service.feature_names(catalog),
    ]
    counts = dict(counted)
    return Assembled(
        pa.Table.from_batches(batches).select(columns),
        {reason: counts.get(reason, 0) for reason in (WITHOUT_LABEL, KNOWN_POSITIVE)},
    )


def known_at(partition: str) -> str:
    """The midnight that ends a partition, as SQL text."""
    return complete_at(partition).isoformat(sep=" ")


def _placed_sql(
    spec: TrainingSetSpec, catalog: Catalog, lake: Lake, partition: str, inputs: Mapping[str, Input]
) -> str:
    """SQL of the events of the set's days with their label as known at the cut, and where each belongs."""
    split = spec.split(day(partition), catalog)
    labelled = _labelled_sql(spec, catalog, lake, split, inputs, known_by=known_at(partition))
    keys = spec.excluded_keys(catalog)
    if not keys:
        return placed_sql(labelled, split)
    known = {
        date: _labelled_sql(spec, catalog, lake, split, inputs, known_by=known_at(key_of(date - ONE_DAY)))
        for date in day_range(*split.test)
    }
    return placed_sql(labelled, split, known_positives=known_positives_sql(known, keys=keys), keys=keys)


def _labelled_sql(
    spec: TrainingSetSpec,
    catalog: Catalog,
    lake: Lake,
    split: Split,
    inputs: Mapping[str, Input],
    *,
    known_by: str,
) -> str:
    """SQL of the events of the set's days with their label, both as known at a time."""
    service, labels = spec.service(catalog), spec.label_source(catalog)
    source = service.source_spec(catalog)
    events = inputs[source.key]
    days = EventDays(
        first=key_of(split.train[0]),
        last=key_of(split.test[1]),
        version=events.table_version,
        known_by=known_by,
        files=events.uris(lake),
    )
    pinned = inputs[labels.key]
    scan = lake.table(labels.key).at(pinned.table_version).scan(pinned.uris(lake))
    return labelled_sql(
        entity_rows_sql(service, catalog, lake, days),
        latest_versions_sql(labels, scan, known_by=known_by),
        event_id=source.event_id,
        label_event_id=labels.event_id,
        label=spec.label,
        task=spec.task(catalog),
    )
