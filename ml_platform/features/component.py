"""Feature views as assets: daily snapshots, audited before they are published."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa

from ml_platform.compiler import AssetComponent, AssetPlan, SpecComponent, Step
from ml_platform.features.compute import snapshot_sql
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec, OnDemandFeaturesSpec
from ml_platform.features.store import snapshot_query
from ml_platform.gates.outcomes import Outcome
from ml_platform.gates.publishing import Staged, publish
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of, source_digest
from ml_platform.kernel.partitions import PARTITION_COLUMN, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import audit
from ml_platform.lake.engine import connect
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec


class FeatureView(AssetComponent):
    """Windowed features of an entity, one snapshot a day, the same values offline and online."""

    spec_type = FeatureViewSpec
    kinds = frozenset({"feast", "deltalake", "duckdb"})
    spec: FeatureViewSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def code_version(self, catalog: Catalog) -> str:
        return digest_of([self.spec.digest(), source_digest("ml_platform.features.compute")])

    def metadata(self, catalog: Catalog) -> Mapping[str, Any]:
        return {
            "dagster/column_schema": column_schema(self.spec, catalog),
            "dagster/column_lineage": column_lineage(self.spec, catalog),
        }


class OnDemandFeatures(SpecComponent):
    """Features computed when asked for; a Feast object, and no asset of its own."""

    spec_type = OnDemandFeaturesSpec

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        return []


class FeatureService(SpecComponent):
    """The features that a model reads; a Feast object, and no asset of its own."""

    spec_type = FeatureServiceSpec
    spec: FeatureServiceSpec

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        self.spec.request_fields(catalog)
        self.spec.feature_names(catalog)
        return []


def materialize(spec: FeatureViewSpec, step: Step) -> list[Outcome]:
    """Compute the snapshots of a range of days in one query, audit them, publish what passed."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    inputs = Inputs.now(lake, step.catalog.lineage).digests(spec.key, step.partitions)
    with connect(settings) as connection:
        rows = _staged(connection, spec, step.catalog, lake, step.partitions)
        findings = audit(connection, "staged", spec.expectations, partitions=step.partitions)
        entities = _entities(connection)
    step.log.info("%s: %s rows staged for %s", spec.key, f"{rows.num_rows:,}", spans(step.partitions))
    metadata = {key: {"entities": entities.get(key, 0)} for key in step.partitions}
    staged = Staged(spec.key, step.partitions, rows, findings, spec.digest(), inputs, metadata=metadata)
    return publish(lake, staged, run_id=step.run_id)


def computed(
    spec: FeatureViewSpec, catalog: Catalog, settings: Settings, partitions: Sequence[str]
) -> pa.Table:
    """The rows of a range of partitions as they would be published; nothing is written."""
    with connect(settings) as connection:
        return _staged(connection, spec, catalog, Lake(settings.lake_uri), partitions)


def _staged(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    lake: Lake,
    partitions: Sequence[str],
) -> pa.Table:
    """Make the temporary table `staged` of a range of partitions; its rows by day and key."""
    query = snapshot_query(spec, catalog, lake, partitions)
    connection.execute(f"CREATE TEMP TABLE staged AS {snapshot_sql(query)}")
    ordered = f"SELECT * FROM staged ORDER BY {PARTITION_COLUMN}, {spec.entity_key}"
    return connection.sql(ordered).to_arrow_table()


def column_schema(spec: FeatureViewSpec, catalog: Catalog) -> dg.TableSchema:
    """The view's columns as Dagster shows them."""
    described = [
        dg.TableColumn(
            f.name, f.type, description=_sentence(f.function, f.column, str(f.window), str(f.delay))
        )
        for f in spec.features(catalog)
    ]
    keys = [dg.TableColumn(spec.entity_key, "int64"), dg.TableColumn(EVENT_TIME, "timestamp")]
    return dg.TableSchema([*keys, dg.TableColumn(CREATED_TIME, "timestamp"), *described])


def column_lineage(spec: FeatureViewSpec, catalog: Catalog) -> dg.TableColumnLineage:
    """Which source columns each feature comes from."""
    source = catalog.get(SourceSpec, spec.source, wanted_by=spec.key)
    labels = catalog.get(SourceSpec, spec.labels, wanted_by=spec.key) if spec.labels else None
    deps: dict[str, list[dg.TableColumnDep]] = {spec.entity_key: [_column_dep(source.key, spec.entity_key)]}
    for feature in spec.features(catalog):
        origin = labels.key if feature.of_label and labels is not None else source.key
        deps[feature.name] = [
            _column_dep(origin, feature.column),
            _column_dep(source.key, EVENT_TIME),
            _column_dep(source.key, spec.entity_key),
        ]
    return dg.TableColumnLineage(deps)


def _column_dep(asset: str, column: str) -> dg.TableColumnDep:
    return dg.TableColumnDep(dg.AssetKey(asset.split("/")), column)


def _sentence(function: str, column: str, window: str, delay: str) -> str:
    late = "" if delay == "0s" else f", ending {delay} before"
    return f"{function} of {column} over {window}{late}"


def _entities(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    query = f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), count(*) FROM staged GROUP BY 1"
    return {row[0]: row[1] for row in connection.execute(query).fetchall()}
