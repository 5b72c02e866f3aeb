"""Reads the prediction log and what was published of it, and publishes what became of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from ml_platform.feedback.compute import (
    counted_sql,
    deduplicated_sql,
    entity_columns,
    outcomes_sql,
    predictions_sql,
)
from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, within
from ml_platform.kernel.settings import Settings
from ml_platform.lake.content_hash import NO_ROWS_HASH, partition_hashes
from ml_platform.lake.engine import connect
from ml_platform.lake.journal import rows_by_day
from ml_platform.lake.ledger import Publication, history, publish_partitions
from ml_platform.lake.snapshots import Snapshot
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.serving.logged import SCHEMA, log_table
from ml_platform.sources.compute import day_sql, latest_versions_sql

LOG = "logged_predictions"
"""Under this name a connection has the predictions of the days that were asked for, each once."""

_EVER = "9999-12-31 00:00:00+00"  # by then everything is known


@dataclass(frozen=True)
class LoggedDays:
    """The logged predictions of some days, at one version of the log: in `LOG` of the connection."""

    connection: duckdb.DuckDBPyConnection
    inputs: Mapping[str, str]  # by day, how many rows were logged


@contextmanager
def logged(settings: Settings, spec: FeedbackSpec, days: Sequence[str]) -> Iterator[LoggedDays]:
    """The predictions that were logged on some days; none where nobody ever logged one."""
    table = Lake(settings.lake_uri).table(log_table(spec.model))
    opened = table.open()
    with connect(settings) as connection:
        if opened is None:
            connection.register("never_logged", pa.Table.from_pylist([], schema=SCHEMA))
            rows, counts = "SELECT * FROM never_logged", dict[str, int]()
        else:
            rows = Snapshot(table.uri, opened).scan(where=[(PARTITION_COLUMN, "in", list(days))])
            counts = rows_by_day(opened)
        connection.execute(f"CREATE TEMP VIEW {LOG} AS {deduplicated_sql(rows)}")
        yield LoggedDays(connection, {key: logged_inputs(counts, key) for key in days})


def logged_inputs(counts: Mapping[str, int], key: str) -> str:
    """What a day of the log asset is made from: nothing is ever taken out of a log, so the number of rows says it."""
    return f"{counts.get(key, 0)} logged"


def logged_since(now: Sequence[str], then: str) -> str:
    """Why a day of the log asset is stale, for people."""
    return f"{then} when it was made, {now[-1] if now else 'none'} now"


def logged_now(lake: Lake, spec: FeedbackSpec) -> dict[str, int]:
    """Rows that are logged by now, by day; no file is opened."""
    opened = lake.table(log_table(spec.model)).open()
    return {} if opened is None else rows_by_day(opened)


def log_rows(found: LoggedDays, spec: FeedbackSpec, catalog: Catalog) -> pa.Table:
    """The log asset's rows of the days."""
    query = predictions_sql(f"SELECT * FROM {LOG}", spec.join_keys(catalog))
    return found.connection.sql(query).to_arrow_table()


def outcome_rows(settings: Settings, spec: FeedbackSpec, catalog: Catalog, days: Sequence[str]) -> pa.Table:
    """The published predictions of some days, with their labels as they are known by now."""
    lake, labels = Lake(settings.lake_uri), spec.label_source(catalog)
    lag = spec.event_lag.whole_days
    read = labels.cadence.of_days(day(min(days)) - lag * ONE_DAY, day(max(days)))
    known = latest_versions_sql(labels, lake.table(labels.key).scan(where=within(read)), known_by=_EVER)
    known = f"SELECT *, {day_sql(labels)} AS event_day FROM ({known})"
    predictions = lake.table(spec.log_key).scan(where=[(PARTITION_COLUMN, "in", list(days))])
    rows = spec.training_set_spec(catalog)
    query = outcomes_sql(
        predictions,
        known,
        event_id=labels.event_id,
        label=rows.label,
        event_lag=lag,
        task=rows.task(catalog),
    )
    with connect(settings) as connection:
        return connection.sql(query).to_arrow_table()


def counted_outcomes(
    settings: Settings, spec: FeedbackSpec, catalog: Catalog, first: str, last: str
) -> pa.Table:
    """The counted outcomes of a range of days, in order of time, with entities numbered in the order of their ids.

    An event that was asked about on two of the days is there once, as it was answered first.
    """
    table = Lake(settings.lake_uri).table(spec.outcomes_key)
    where = [(PARTITION_COLUMN, ">=", first), (PARTITION_COLUMN, "<=", last)]
    columns = entity_columns(spec.join_keys(catalog))
    numbered = {about: [columns[key] for key in keys] for about, keys in spec.entities(catalog).items()}
    query = counted_sql(table.scan(where=where), numbered)
    with connect(settings) as connection:
        return connection.sql(query).to_arrow_table()


def publish(
    lake: Lake,
    asset: str,
    rows: pa.Table,
    *,
    days: Sequence[str],
    declaration: str,
    inputs: Mapping[str, str],
    run_id: str,
) -> dict[str, Publication]:
    """Replace days of an asset, with or without rows; what was published, by day."""
    hashes = {key: (part.num_rows, digest) for key, part, digest in partition_hashes(rows, PARTITION_COLUMN)}
    publications = [
        Publication(asset, key, digest, count, 0, declaration, run_id, inputs[key])
        for key in days
        for count, digest in [hashes.get(key, (0, NO_ROWS_HASH))]
    ]
    return {found.partition: found for found in publish_partitions(lake, rows, publications)}


def evaluation_of(settings: Settings, model: str, version: int) -> dict[str, Any] | None:
    """What was measured when a version was registered; None when the registry has no such version any more."""
    return _document(settings, model, version, "evaluation.json")


def manifest_of(settings: Settings, model: str, version: int) -> dict[str, Any] | None:
    """What a version was trained on; None when the registry has no such version any more."""
    return _document(settings, model, version, "manifest.json")


def _document(settings: Settings, model: str, version: int, name: str) -> dict[str, Any] | None:
    registered = registry.version(settings, model, version)
    return None if registered is None else registry.load_document(settings, registered, name)


def trained_on(settings: Settings, manifest: Mapping[str, Any]) -> str | None:
    """SQL of the training set that a manifest is of, if its table still has that content at some version."""
    lake, asset = Lake(settings.lake_uri), f"training_sets/{manifest['training_set']}"
    partition, content = manifest["partition"], manifest["content_hash"]
    for found in reversed(history(lake, [asset])):
        if (found.partition, found.content_hash) == (partition, content):
            try:
                return lake.table(asset).scan(
                    version=found.table_version, where=[(PARTITION_COLUMN, "=", partition)]
                )
            except StoreError:
                return None
    return None
