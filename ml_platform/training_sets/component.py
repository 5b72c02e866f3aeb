"""Training sets as assets: built once per day, checked for leakage, size and label drift."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from ml_platform.compiler import AssetComponent, Step
from ml_platform.drift_profiles.metrics import write_metrics
from ml_platform.drift_profiles.sequence import LetThrough
from ml_platform.features.component import column_lineage
from ml_platform.gates.acceptances import Accepted, accepted
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, key_of, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import Publication
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import EVENT_TIME
from ml_platform.training_sets import store
from ml_platform.training_sets.compute import LABEL, SPLIT
from ml_platform.training_sets.label_drift import DayLabels, LabelVerdict, judge_in_turn
from ml_platform.training_sets.manifest import declaration_digests
from ml_platform.training_sets.spec import TrainingSetSpec


class TrainingSet(AssetComponent):
    """Point-in-time rows with matured labels, and the manifest that rebuilds them."""

    spec_type = TrainingSetSpec
    kinds = frozenset({"feast", "deltalake", "duckdb"})
    one_run_per_range = False
    code = (
        "features.in_memory",
        "features.point_in_time",
        "features.store",
        "training_sets.assembly",
        "training_sets.compute",
    )
    spec: TrainingSetSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def rechecked(self, catalog: Catalog, settings: Settings, partitions: Sequence[str]) -> Sequence[Outcome]:
        return [recheck_day(self.spec, catalog, settings, partition) for partition in partitions]

    def code_version(self, catalog: Catalog) -> str:
        return digest_of(declaration_digests(self.spec, catalog))

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
    read = Inputs.of(spec.key, lake, step.catalog.lineage)
    read.require(spec.key, [partition])
    inputs = read.digest(spec.key, partition)
    built = store.build(settings, spec, step.catalog, partition)
    manifest = built.manifest
    digest, rows = manifest["content_hash"], built.rows.num_rows
    publication = Publication(spec.key, partition, digest, rows, 0, spec.digest(), step.run_id, inputs)
    store.write(lake, partition, built, publication)
    return Outcome(
        partition=partition,
        published=True,
        evaluations=evaluations(spec, step.catalog, settings, partition, built),
        metadata={
            "dagster/partition_row_count": rows,
            "rows": manifest["rows"],
            "rows_without_label": manifest["rows_without_label"],
            "rows_known_positive": manifest["rows_known_positive"],
            "split": manifest["split"],
            "content_hash": digest,
            "manifest": dg.MetadataValue.json(_shown(manifest)),
        },
        data_version=digest,
    )


def recheck_day(spec: TrainingSetSpec, catalog: Catalog, settings: Settings, partition: str) -> Outcome:
    """A published set judged again, by its manifest, its rows and the labels that were known when it was built."""
    built = store.read_built(settings, spec, partition)
    judged = evaluations(spec, catalog, settings, partition, built)
    return Outcome(partition, published=True, evaluations=judged, data_version=built.manifest["content_hash"])


def evaluations(
    spec: TrainingSetSpec, catalog: Catalog, settings: Settings, partition: str, built: store.Built
) -> tuple[Evaluation, ...]:
    """What every check of a built set says."""
    labels = store.daily_labels(settings, spec, catalog, partition)
    lake = Lake(settings.lake_uri)
    return quality(spec, catalog, built), label_drift(spec, lake, catalog, partition, labels)


def computed(
    spec: TrainingSetSpec, catalog: Catalog, settings: Settings, partitions: Sequence[str]
) -> pa.Table:
    """The rows of partitions as they would be published; nothing is written."""
    built = [store.on_day(store.build(settings, spec, catalog, key).rows, key) for key in partitions]
    return pa.concat_tables(built)


def _shown(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without its long parts, which the event log need not keep."""
    return {name: value for name, value in manifest.items() if name not in ("inputs", "specs", "functions")}


def quality(spec: TrainingSetSpec, catalog: Catalog, built: store.Built) -> Evaluation:
    """Size, and leakage: between the last train row and the first test row lies the labels' maturity."""
    rows = built.manifest["rows"]
    broken = [
        f"{side} has {rows[side][what]} {what}, fewer than {least}"
        for side in ("train", "test")
        for what, least in (("rows", spec.minimum_rows), ("positives", spec.minimum_positives))
        if rows[side].get(what, least) < least
    ]
    maturity = spec.label_source(catalog).maturity
    apart = store.time_between_splits(built.rows)
    if apart is not None and apart < maturity.timedelta():
        broken.append(f"the first test row is {apart} after the last train row")
    wanted = f"{spec.minimum_rows} rows"
    if spec.task(catalog) == "classification":
        wanted += f" and {spec.minimum_positives} positives"
    return Evaluation(
        check="quality",
        passed=not broken,
        observed="; ".join(broken),
        bound=f"{wanted} in each split, {maturity} between train and test",
        metadata={"rows": rows},
    )


def label_drift(
    spec: TrainingSetSpec,
    lake: Lake,
    catalog: Catalog,
    partition: str,
    labels: Sequence[DayLabels],
) -> Evaluation:
    """Judge the newest matured day's labels against the accepted ones before it; its statistics go to the lake.

    Of classes their rate is judged, of numbers their mean.
    """
    newest = key_of(spec.split(day(partition), catalog).test[1])
    what = "mean label" if spec.task(catalog) == "regression" else "label rate"
    bound = f"a {what} within {spec.label_rate_bound:g} times the reference's, either way"
    if not labels or labels[-1].day != newest:
        write_metrics(lake, spec.key, [], days=[partition])
        return Evaluation("label_drift", False, f"no matured labels on {newest}", bound)
    verdict = judge_in_turn(
        labels,
        LetThrough(_accepted_label_days(spec, lake, catalog)),
        ratio_bound=spec.label_rate_bound,
        reference_days=spec.reference_days,
    )
    write_metrics(lake, spec.key, [_label_metrics(spec, partition, verdict)], days=[partition])
    decision = verdict.decision
    return Evaluation(
        check="label_drift",
        passed=verdict.passed,
        observed=f"{newest}: {decision.reason}",
        bound=bound,
        metadata={
            "status": decision.status,
            "rate": decision.rate,
            "reference_rate": decision.reference_rate,
            "reference": _reference_id(verdict),
            "reference_days": spans([past.day for past in verdict.reference]) or "none",
            "judged": verdict.day.content,
        },
    )


def _label_metrics(spec: TrainingSetSpec, partition: str, verdict: LabelVerdict) -> dict[str, Any]:
    """The statistics of a label rate as a row of the metrics table."""
    decision = verdict.decision
    return {
        PARTITION_COLUMN: day(partition),
        "day": day(verdict.day.day),
        "status": decision.status,
        "judged": verdict.day.content,
        "reference": _reference_id(verdict),
        "feature": spec.label,
        "kind": "label",
        "statistic_name": "rate_ratio",
        "statistic": decision.ratio,
        "p_value": decision.p_value,
        "p_adjusted": decision.p_value,
        "bound": spec.label_rate_bound,
        "rate": decision.rate,
        "reference_rate": decision.reference_rate,
        "gated": True,
        "breached": decision.status == "failed",
        "days_in_row": int(decision.status == "failed"),
        "reason": decision.reason,
    }


def _reference_id(verdict: LabelVerdict) -> str:
    return digest_of([[past.day, past.content] for past in verdict.reference])


def _accepted_label_days(spec: TrainingSetSpec, lake: Lake, catalog: Catalog) -> dict[str, Accepted]:
    """Acceptances by the day whose labels they judged."""
    maturity = spec.maturity_days(catalog) * ONE_DAY
    found = accepted(lake, spec.key, "label_drift")
    return {key_of(day(partition) - maturity): acceptance for partition, acceptance in found.items()}


def column_schema(spec: TrainingSetSpec, catalog: Catalog) -> dg.TableSchema:
    """The training set's columns as Dagster shows them."""
    service = spec.service(catalog)
    source = service.source_spec(catalog)
    fixed = [
        dg.TableColumn(source.event_id, source.columns[source.event_id].type),
        *(dg.TableColumn(key, source.columns[key].type) for key in spec.keys_carried(catalog)),
        dg.TableColumn(EVENT_TIME, "timestamp"),
        dg.TableColumn(SPLIT, "string", description="train or test"),
        dg.TableColumn(
            LABEL, _label_type(spec, catalog), description=f"{spec.label} as known when the set was built"
        ),
    ]
    return dg.TableSchema([*fixed, *(dg.TableColumn(n, "float") for n in service.feature_names(catalog))])


def _label_type(spec: TrainingSetSpec, catalog: Catalog) -> str:
    return "double" if spec.task(catalog) == "regression" else "int64"


def lineage_of_columns(spec: TrainingSetSpec, catalog: Catalog) -> dg.TableColumnLineage:
    """Which upstream columns each column of the set comes from."""
    service = spec.service(catalog)
    source = service.source_spec(catalog)
    deps = {LABEL: [_dep(spec.label_source(catalog).key, spec.label)]}
    deps |= {key: [_dep(source.key, key)] for key in spec.keys_carried(catalog)}
    deps |= {name: [_dep(source.key, name)] for name in service.request_features if name in source.columns}
    for view in service.view_specs(catalog):
        known = column_lineage(view, catalog).deps_by_column
        deps |= {name: [_dep(view.key, name)] for name in known if name not in view.entity_keys}
    for on_demand in service.on_demand_specs(catalog):
        inputs = [_dep(source.key, name) for name in on_demand.request if name in source.columns]
        inputs += [_dep(source.key, EVENT_TIME)]
        read = [view for view in service.view_specs(catalog) if view.name in on_demand.views]
        inputs += [_dep(view.key, feature.name) for view in read for feature in view.features(catalog)]
        deps |= dict.fromkeys(on_demand.outputs, inputs)
    return dg.TableColumnLineage(deps)


def _dep(asset: str, column: str) -> dg.TableColumnDep:
    return dg.TableColumnDep(dg.AssetKey(asset.split("/")), column)
