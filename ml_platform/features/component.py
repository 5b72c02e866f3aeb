"""Feature views as assets: partitions of a day or an hour, audited before they are published."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa

from ml_platform.compiler import AssetComponent, AssetPlan, SpecComponent, Step
from ml_platform.features import handwritten
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec, OnDemandFeaturesSpec
from ml_platform.features.staging import row_table, schema_differences, stage_rows
from ml_platform.gates.outcomes import Outcome
from ml_platform.gates.publishing import Staged, broken_and_let_through, judge_published, publish
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import Beside, Finding, audit, published_sizes
from ml_platform.lake.broken_rows import stage_references
from ml_platform.lake.dialect import quoted
from ml_platform.lake.engine import connect
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME


class FeatureView(AssetComponent):
    """Windowed features of an entity, one snapshot a day or an hour, the same values offline and online."""

    spec_type = FeatureViewSpec
    kinds = frozenset({"feast", "deltalake", "duckdb"})
    code = (
        "features.aggregation",
        "features.compute",
        "features.handwritten",
        "features.known_at",
        "features.measures",
        "features.staging",
        "features.view_query",
        "lake.dialect",
        "lake.known_keys",
        "lake.predicates",
        "lake.schemas",
    )
    spec: FeatureViewSpec

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        if self.spec.sql is not None:
            handwritten.returned(self.spec, catalog)
        return super().plans(catalog)

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
    """Compute the rows of a range of partitions in one query, audit them, publish what passed."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    read = Inputs.of(spec.key, lake, step.catalog.lineage)
    read.require(spec.key, step.partitions)
    with connect(settings) as connection:
        keys = stage_rows(connection, spec, step.catalog, read, step.partitions)
        inputs = read.digests(spec.key, step.partitions, keys)
        findings = audited(connection, spec, step.catalog, lake, "staged", step.partitions)
        for line in broken_and_let_through(findings):
            step.log.warning("%s %s", spec.key, line)
        rows = connection.sql("FROM staged")
        step.log.info("%s: %s rows staged for %s", spec.key, f"{len(rows):,}", spans(step.partitions))
        entities = _entities(connection, spec, step.catalog)
        metadata = {key: {"entities": entities.get(key, 0)} for key in step.partitions}
        staged = Staged(spec.key, step.partitions, rows, findings, spec.digest(), inputs, metadata=metadata)
        return publish(lake, staged, run_id=step.run_id)


def audited(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    lake: Lake,
    rows: str,
    partitions: Sequence[str],
) -> dict[str, list[Finding]]:
    """What is found in the view's rows of some partitions in the relation named `rows`."""
    cadence = spec.cadence(catalog)
    stage_references(connection, lake, rows, spec.expectations, cadence)
    beside = Beside(
        published=published_sizes(lake, spec.key, spec.expectations, partitions),
        schema=schema_differences(connection, rows, spec, catalog),
    )
    return audit(connection, rows, spec.expectations, partitions=partitions, beside=beside, cadence=cadence)


def computed(
    spec: FeatureViewSpec, catalog: Catalog, settings: Settings, partitions: Sequence[str]
) -> pa.Table:
    """The rows of some partitions as they would be published now, in their order; nothing is written."""
    read = Inputs.of(spec.key, Lake(settings.lake_uri), catalog.lineage)
    read.require(spec.key, partitions)
    with connect(settings) as connection:
        return row_table(connection, spec, catalog, read, partitions)


def column_schema(spec: FeatureViewSpec, catalog: Catalog) -> dg.TableSchema:
    """The view's columns as Dagster shows them."""
    source, _ = spec.sources(catalog)
    keys = [dg.TableColumn(name, source.columns[name].type) for name in spec.row_key(catalog)]
    times = [dg.TableColumn(name, "timestamp") for name in (EVENT_TIME, CREATED_TIME)]
    features = [dg.TableColumn(f.name, f.type, description=f.sentence) for f in spec.features(catalog)]
    return dg.TableSchema([*keys, *times, *features])


def column_lineage(spec: FeatureViewSpec, catalog: Catalog) -> dg.TableColumnLineage:
    """Which source columns each feature comes from."""
    source, labels = spec.sources(catalog)
    origins = {"events": source.key, "labels": labels.key if labels is not None else source.key}
    always = [_column_dep(source.key, name) for name in (EVENT_TIME, *spec.entity_keys)]
    deps = {name: [_column_dep(source.key, name)] for name in spec.row_key(catalog)}
    for feature in spec.features(catalog):
        own = [_column_dep(origins[stream], column) for stream, column in feature.reads]
        deps[feature.name] = [*own, *always]
    return dg.TableColumnLineage(deps)


def _column_dep(asset: str, column: str) -> dg.TableColumnDep:
    return dg.TableColumnDep(dg.AssetKey(asset.split("/")), column)


def _entities(
    connection: duckdb.DuckDBPyConnection, spec: FeatureViewSpec, catalog: Catalog
) -> dict[str, int]:
    key, partition = ", ".join(map(quoted, spec.entity_keys)), spec.cadence(catalog).column
    query = f"SELECT CAST({partition} AS VARCHAR), count(DISTINCT ({key})) FROM staged GROUP BY 1"
    return {row[0]: row[1] for row in connection.execute(query).fetchall()}
