"""Training sets as assets: built once per day, checked for leakage, size and label drift."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ml_platform.compiler import AssetComponent, Step
from ml_platform.features.component import column_lineage
from ml_platform.gates.acceptances import accepted
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.lineage import Upstream
from ml_platform.kernel.partitions import ONE_DAY, day, day_range, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import Publication, record_publications, require_published
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import EVENT_TIME
from ml_platform.training_sets import store
from ml_platform.training_sets.label_drift import RateDecision, judge_rate
from ml_platform.training_sets.spec import TrainingSetSpec


class TrainingSet(AssetComponent):
    """Point-in-time rows with matured labels, and the manifest that rebuilds them."""

    spec_type = TrainingSetSpec
    kinds = frozenset({"feast", "deltalake", "duckdb"})
    one_run_per_range = False
    spec: TrainingSetSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def code_version(self, catalog: Catalog) -> str:
        return digest_of(store.declaration_digests(self.spec, catalog))

    def metadata(self, catalog: Catalog) -> Mapping[str, Any]:
        return {
            "dagster/column_schema": column_schema(self.spec, catalog),
            "dagster/column_lineage": lineage_of_columns(self.spec, catalog),
        }


def materialize(spec: TrainingSetSpec, step: Step) -> list[Outcome]:
    """Build, check and write the training sets of the given days, one after the other."""
    return [_materialize_day(spec, step, partition) for partition in step.partitions]


def _materialize_day(spec: TrainingSetSpec, step: Step, partition: str) -> Outcome:
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    for upstream in spec.nodes(step.catalog)[0].upstream:
        require_published(lake, upstream.key, _days_read(step.catalog, upstream, partition), reader=spec.key)
    built = store.build(settings, spec, step.catalog, partition)
    version = store.write(lake, spec, partition, built)
    manifest = built.manifest
    digest, rows = manifest["content_hash"], built.rows.num_rows
    publication = Publication(spec.key, partition, digest, rows, version, spec.digest(), step.run_id)
    record_publications(lake, [publication])
    counts = store.daily_label_counts(settings, spec, step.catalog, partition)
    evaluations = (quality(spec, manifest), label_drift(spec, lake, step.catalog, partition, counts))
    return Outcome(
        partition=partition,
        published=True,
        evaluations=evaluations,
        metadata={
            "dagster/partition_row_count": rows,
            "rows": manifest["rows"],
            "rows_without_label": built.without_label,
            "split": manifest["split"],
            "content_hash": digest,
            "manifest": dg.MetadataValue.json({k: v for k, v in manifest.items() if k != "inputs"}),
        },
        data_version=digest,
    )


def quality(spec: TrainingSetSpec, manifest: Any) -> Evaluation:
    """Size and leakage: enough rows and positives, and no test day within the labels' maturity of a train day."""
    rows, split = manifest["rows"], manifest["split"]
    broken = [
        f"{side} has {rows[side][what]} {what}, fewer than {least}"
        for side in ("train", "test")
        for what, least in (("rows", spec.minimum_rows), ("positives", spec.minimum_positives))
        if rows[side][what] < least
    ]
    if not split["train"][1] < split["gap"][0] <= split["gap"][1] < split["test"][0]:
        broken.append(f"train, gap and test days overlap: {split}")
    return Evaluation(
        check="quality",
        passed=not broken,
        observed="; ".join(broken),
        bound=f"{spec.minimum_rows} rows and {spec.minimum_positives} positives in each split, a gap between them",
        metadata={"rows": rows},
    )


def label_drift(
    spec: TrainingSetSpec,
    lake: Lake,
    catalog: Catalog,
    partition: str,
    counts: Sequence[tuple[str, int, int]],
) -> Evaluation:
    """Judge the newest matured day's label rate; days that failed before it are no reference unless accepted."""
    maturity = spec.maturity_days(catalog)
    let_through = {key_of(day(p) - maturity * ONE_DAY) for p in accepted(lake, spec.key, "label_drift")}
    reference: list[tuple[int, int]] = []
    decision: RateDecision | None = None
    for key, positives, rows in counts:
        decision = judge_rate(
            positives,
            rows,
            [p for p, _ in reference[-spec.reference_days :]],
            [r for _, r in reference[-spec.reference_days :]],
            ratio_bound=spec.label_rate_bound,
            reference_days=spec.reference_days,
        )
        if decision.status != "failed" or key in let_through:
            reference.append((positives, rows))
    newest = key_of(spec.split(day(partition), catalog).test[1])
    if decision is None or counts[-1][0] != newest:
        return Evaluation(
            "label_drift", passed=False, observed=f"no matured labels on {newest}", bound="some"
        )
    return Evaluation(
        check="label_drift",
        passed=decision.status != "failed" or newest in let_through,
        observed=f"{newest}: {decision.reason}",
        bound=f"a label rate within {spec.label_rate_bound:g} times the reference's, either way",
        metadata={
            "status": decision.status,
            "rate": decision.rate,
            "reference_rate": decision.reference_rate,
        },
    )


def column_schema(spec: TrainingSetSpec, catalog: Catalog) -> dg.TableSchema:
    """The training set's columns as Dagster shows them."""
    service = spec.service(catalog)
    source = service.source_spec(catalog)
    fixed = [
        dg.TableColumn(source.event_id, source.columns[source.event_id].type),
        dg.TableColumn(EVENT_TIME, "timestamp"),
        dg.TableColumn(store.SPLIT, "string", description="train or test"),
        dg.TableColumn(store.LABEL, "int64", description=f"{spec.label} as known when the set was built"),
    ]
    return dg.TableSchema([*fixed, *(dg.TableColumn(n, "float") for n in service.feature_names(catalog))])


def lineage_of_columns(spec: TrainingSetSpec, catalog: Catalog) -> dg.TableColumnLineage:
    """Which upstream columns each column of the set comes from."""
    service = spec.service(catalog)
    source = service.source_spec(catalog)
    deps = {store.LABEL: [_dep(spec.label_source(catalog).key, spec.label)]}
    deps |= {name: [_dep(source.key, name)] for name in service.request_features if name in source.columns}
    for view in service.view_specs(catalog):
        known = column_lineage(view, catalog).deps_by_column
        deps |= {name: [_dep(view.key, name)] for name in known if name != view.entity_key}
    for on_demand in service.on_demand_specs(catalog):
        inputs = [_dep(source.key, name) for name in on_demand.request if name in source.columns]
        inputs += [_dep(source.key, EVENT_TIME)]
        deps |= dict.fromkeys(on_demand.outputs, inputs)
    return dg.TableColumnLineage(deps)


def _dep(asset: str, column: str) -> dg.TableColumnDep:
    return dg.TableColumnDep(dg.AssetKey(asset.split("/")), column)


def _days_read(catalog: Catalog, upstream: Upstream, partition: str) -> list[str]:
    window = (day(partition) + upstream.first * ONE_DAY, day(partition) + upstream.last * ONE_DAY)
    clipped = catalog.node(upstream.key).clip(window)
    return [key_of(found) for found in day_range(*clipped)] if clipped else []
