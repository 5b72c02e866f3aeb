"""Reads who is champion, and stages the scores of days from what is published of events and features."""

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from ml_platform.features.point_in_time import ENTITY_ROWS, join_sql
from ml_platform.features.row_order import scan
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.store import EventDays, entity_rows_sql
from ml_platform.features.view_reads import Times
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import PARTITION_COLUMN, Range, day, within
from ml_platform.kernel.settings import Settings
from ml_platform.lake.dialect import quoted
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import published
from ml_platform.lake.schemas import ENGINE_TYPES, columns_of
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.contract import Contract
from ml_platform.predictions.compute import Version, asked_sql, carried, scored, view_read
from ml_platform.predictions.spec import BatchPredictionsSpec
from ml_platform.releases.online_features import changed_fields
from ml_platform.serving.versions import load

STAGED = "staged"
_BATCH_ROWS = 10_000
_ARROW_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "float": pa.float32(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
}


def champion(settings: Settings, model: str) -> tuple[registry.Registered, Version]:
    """The champion of a model, ready to score; StoreError without one, and for one that may not be served."""
    found = registry.champion(settings, model)
    if found is None:
        raise StoreError(
            f"a champion of model {model!r} is required; there is none. Nothing was scored; materialize "
            f"models/{model} and its release first"
        )
    return found, Version(found.version, found.run_id, load(settings, found).scorer)


def require_declared(
    settings: Settings,
    spec: BatchPredictionsSpec,
    catalog: Catalog,
    found: registry.Registered,
    contract: Contract,
    partitions: Sequence[str],
) -> None:
    """Raise StoreError where events or features are not declared, or were not made, as the champion knows them."""
    service = spec.service(catalog)
    source, fields = service.source_spec(catalog), service.request_fields(catalog)
    wrong = [
        what
        for what, differs in {
            f"events by {contract.event.name} of {contract.event.source}": (
                (contract.event.source, contract.event.name) != (source.name, source.event_id)
            ),
            f"the views {', '.join(view.name for view in contract.views)}": (
                [view.name for view in contract.views] != list(service.views)
            ),
            f"the values {', '.join(contract.request)} with a request": (
                dict(contract.request) != {name: field.type for name, field in fields.items()}
            ),
        }.items()
        if differs
    ]
    wrong += _other_features(settings, spec, catalog, found, contract, partitions)
    if wrong:
        raise StoreError(
            f"{spec.key}: {contract.model} version {found.version} reads {'; '.join(wrong)}; what is declared now, or "
            f"was materialized, is another. Nothing was scored; materialize what is named, or train and release a "
            f"version on what there is"
        )


def stage(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    spec: BatchPredictionsSpec,
    catalog: Catalog,
    version: Version,
    partitions: Sequence[str],
) -> None:
    """Make the temporary table `staged`: the scores of days, by day and event id; one batch is in memory at a time."""
    types = spec.row_types(catalog)
    columns = ", ".join(f"{quoted(name)} {ENGINE_TYPES[kind]}" for name, kind in types.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {STAGED} ({columns}, {PARTITION_COLUMN} DATE)")
    for partition in sorted(partitions):
        for batch in _seen_by(settings, spec, catalog, version.contract, partition):
            found = scored(version, [_plain(column) for column in batch.columns[1:]])
            rows = pa.table({name: pa.array(found[name], _ARROW_TYPES[kind]) for name, kind in types.items()})
            days = pa.array([day(partition)] * rows.num_rows, pa.date32())
            connection.from_arrow(rows.append_column(PARTITION_COLUMN, days)).insert_into(STAGED)


def _seen_by(
    settings: Settings, spec: BatchPredictionsSpec, catalog: Catalog, contract: Contract, partition: str
) -> Iterator[pa.RecordBatch]:
    """The events of a day with the rows of each view that could be read at their time, as `scored` takes them."""
    lake, service = Lake(settings.lake_uri), spec.service(catalog)
    names = carried(contract)
    events = entity_rows_sql(service, catalog, lake, EventDays(partition, partition))
    with connect(settings) as connection:
        asked = asked_sql(events, names, contract.event.name)
        connection.execute(f"CREATE TEMP TABLE {ENTITY_ROWS} AS {asked}")
        times = Times(*connection.execute(f"SELECT min(t), max(t) FROM {ENTITY_ROWS}").fetchall()[0])
        reads = []
        for view in contract.views:
            seen = _seen_of(catalog, spec, view.name, partition)
            relation = lake.table(f"features/{view.name}").scan(where=within(seen))
            read = view_read(view, relation, columns_of(connection, relation))
            reads.append((read, scan(connection, read, times)))
        query = join_sql(
            reads,
            times=times,
            key_columns={key: f"c{names.index(key)}" for key in contract.keys},
            carried=[f"c{i}" for i in range(len(names))],
        )
        for batch in connection.sql(query).to_arrow_reader(_BATCH_ROWS):
            if batch.num_rows:
                yield batch


def _plain(column: pa.Array) -> list[Any]:
    """Values as the scorer takes them: times as microseconds since 1970 UTC."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return column.to_pylist()


def _seen_of(catalog: Catalog, spec: BatchPredictionsSpec, view: str, partition: str) -> Range:
    """Which partitions of a view the events of a day can see, by the declared mapping."""
    return catalog.lineage.direct_partitions(spec.key, (partition, partition))[f"features/{view}"]


def _other_features(
    settings: Settings,
    spec: BatchPredictionsSpec,
    catalog: Catalog,
    found: registry.Registered,
    contract: Contract,
    partitions: Sequence[str],
) -> list[str]:
    """Days of views that were made under a declaration in which the features that the version reads are others."""
    lake = Lake(settings.lake_uri)
    read = catalog.lineage.direct_partitions(spec.key, (min(partitions), max(partitions)))
    said: list[str] = []
    for view in contract.views:
        key = f"features/{view.name}"
        first, last = read[key]
        made = {p.declaration for day, p in published(lake, key).items() if first <= day <= last}
        others = made - {view.declaration}
        if others and _changed(settings, catalog, found, view.name, view.features, others):
            said.append(f"{key} under declaration {view.declaration}")
    return said


def _changed(
    settings: Settings,
    catalog: Catalog,
    found: registry.Registered,
    view: str,
    features: Sequence[str],
    others: set[str],
) -> bool:
    """Whether another declaration of a view makes other features than the one that a version was trained under."""
    now = catalog.get(FeatureViewSpec, view, wanted_by="the champion's contract")
    if others != {now.digest()}:
        return True
    manifest = registry.load_document(settings, found, "manifest.json")
    then = manifest.get("specs", {}).get(f"FeatureView/{view}")
    return bool(changed_fields(catalog, then, now, features))
