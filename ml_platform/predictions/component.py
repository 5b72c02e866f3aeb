"""Batch predictions as assets: a day's events scored by the champion, audited before they are published."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import duckdb

from ml_platform.compiler import AssetComponent, Step
from ml_platform.gates.outcomes import Outcome
from ml_platform.gates.publishing import Staged, broken_and_let_through, judge_published, publish
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import PARTITION_COLUMN, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import Beside, Finding, audit, published_sizes
from ml_platform.lake.engine import connect
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.schemas import columns_of, differences
from ml_platform.lake.tables import Lake
from ml_platform.predictions import store
from ml_platform.predictions.spec import BatchPredictionsSpec


class BatchPredictions(AssetComponent):
    """A day's events, each with the score that the service would have answered at its time."""

    spec_type = BatchPredictionsSpec
    kinds = frozenset({"onnx", "deltalake", "duckdb"})
    code = (
        "features.point_in_time",
        "features.row_order",
        "predictions.compute",
        "predictions.store",
        "serving.compute",
    )
    spec: BatchPredictionsSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def rechecked(self, catalog: Catalog, settings: Settings, partitions: Sequence[str]) -> Sequence[Outcome]:
        lake = Lake(settings.lake_uri)
        return judge_published(
            settings,
            self.spec.key,
            partitions,
            lambda connection, rows: audited(connection, self.spec, catalog, lake, rows, partitions),
        )

    def metadata(self, catalog: Catalog) -> Mapping[str, Any]:
        columns = [dg.TableColumn(name, kind) for name, kind in self.spec.row_types(catalog).items()]
        return {"dagster/column_schema": dg.TableSchema(columns)}


def materialize(spec: BatchPredictionsSpec, step: Step) -> list[Outcome]:
    """Score the events of a range of days with whoever is champion now, audit them, publish what passed."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    read = Inputs.of(spec.key, lake, step.catalog.lineage)
    read.require(spec.key, step.partitions)
    inputs = read.digests(spec.key, step.partitions)
    found, version = store.champion(settings, spec.model_spec(step.catalog).name)
    store.require_declared(settings, spec, step.catalog, found, version.contract, step.partitions)
    with connect(settings) as connection:
        store.stage(connection, settings, spec, step.catalog, version, step.partitions)
        findings = audited(connection, spec, step.catalog, lake, store.STAGED, step.partitions)
        for line in broken_and_let_through(findings):
            step.log.warning("%s %s", spec.key, line)
        rows = connection.sql(f"FROM {store.STAGED}")
        who = f"{found.name} version {found.version}"
        step.log.info("%s: %s rows of %s by %s", spec.key, f"{len(rows):,}", spans(step.partitions), who)
        metadata = _told(connection, step.partitions, {"model": who, "version": found.version})
        staged = Staged(spec.key, step.partitions, rows, findings, spec.digest(), inputs, metadata=metadata)
        return publish(lake, staged, run_id=step.run_id)


def audited(
    connection: duckdb.DuckDBPyConnection,
    spec: BatchPredictionsSpec,
    catalog: Catalog,
    lake: Lake,
    rows: str,
    partitions: Sequence[str],
) -> dict[str, list[Finding]]:
    """What is found in the scores of some days in the relation named `rows`."""
    declared = {**spec.row_types(catalog), PARTITION_COLUMN: "date"}
    beside = Beside(
        published=published_sizes(lake, spec.key, spec.expectations, partitions),
        schema=differences(columns_of(connection, f"FROM {rows}"), declared),
    )
    return audit(connection, rows, spec.expectations, partitions=partitions, beside=beside)


def _told(
    connection: duckdb.DuckDBPyConnection, partitions: Sequence[str], common: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What is shown of each day: who scored, and how many events were alerts or were rejected."""
    query = (
        f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), count_if(alert), count_if(outcome = 'rejected') "
        f"FROM {store.STAGED} GROUP BY 1"
    )
    counts = {day: {"alerts": a, "rejected": r} for day, a, r in connection.execute(query).fetchall()}
    return {day: {**common, **counts.get(day, {"alerts": 0, "rejected": 0})} for day in partitions}
