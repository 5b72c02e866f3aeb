"""Feedback as assets: what was predicted, what came of it, and how good each version was; and a wish to be trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
import numpy as np
import pyarrow as pa

from ml_platform.compiler import AssetPlan, SpecComponent, Step
from ml_platform.feedback import reporting, store
from ml_platform.feedback.consistency import consistency
from ml_platform.feedback.drift import PredictionDrift, TrainingDrift, champions_of
from ml_platform.feedback.performance import (
    PERFORMANCE,
    ConceptDrift,
    Scored,
    by_version,
    concept_drift,
    measured,
    performance_rows,
    seed_for,
)
from ml_platform.feedback.retraining import wish
from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.gates.stale import Declared
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of, source_digest
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.partitions import ONE_DAY, day, key_of, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import Publication, published
from ml_platform.lake.tables import Lake

_INTERVAL_S = 60

Days = Sequence[str]


class Feedback(SpecComponent):
    """The logged predictions of a model, their outcomes, and the performance of each version."""

    spec_type = FeedbackSpec
    spec: FeedbackSpec

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        spec, (log, outcomes, performance) = self.spec, self.spec.nodes(catalog)
        return [
            self._plan(
                log,
                catalog,
                lambda step: follow_log(spec, step),
                said=f"Predictions of model {spec.model}, as the service logged them, each once.",
            ),
            self._plan(
                outcomes,
                catalog,
                lambda step: find_outcomes(spec, step),
                said=f"Predictions of model {spec.model} with their labels, once these are mature.",
            ),
            self._plan(
                performance,
                catalog,
                lambda step: measure_versions(spec, step),
                said=f"How good each version of model {spec.model} was on matured labels, beside its own evaluation.",
            ),
        ]

    def sensors(self, catalog: Catalog) -> Sequence[dg.SensorDefinition]:
        return [retraining_sensor(self.spec, catalog)] if self.spec.retrain else []

    def _plan(
        self, node: Node, catalog: Catalog, work: Callable[[Step], Sequence[Outcome]], *, said: str
    ) -> AssetPlan:
        digest = self.spec.declarations(catalog)[node.key]
        modules = [source_digest(f"ml_platform.feedback.{name}") for name in ("compute", "performance")]
        return AssetPlan(
            node=node,
            work=work,
            spec=self.spec,
            kinds=frozenset({"deltalake", "duckdb"}),
            code_version=digest_of([digest, *modules]),
            description=f"{said} {self.spec.description}".strip(),
        )


def retraining_sensor(spec: FeedbackSpec, catalog: Catalog) -> dg.SensorDefinition:
    """Asks for the model's training when drift is found; its gates decide whether it may run."""
    model = spec.model_spec(catalog)
    wanted = [dg.AssetKey(key.split("/")) for key in (spec.training_set_spec(catalog).key, model.key)]

    def look(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        here: Settings = context.resources.environment
        found = wish(context.instance, here, spec, catalog)
        if found.partition is None:
            return dg.SkipReason(found.because)
        return dg.RunRequest(
            run_key=f"{model.key} {found.partition}",  # once for each day, whatever became of it
            partition_key=found.partition,
            asset_selection=wanted,
            tags={"ml_platform/because": found.because},
        )

    return dg.SensorDefinition(
        name=f"feedback_{spec.name}_retraining",
        evaluation_fn=look,
        asset_selection=dg.AssetSelection.assets(*wanted),
        minimum_interval_seconds=_INTERVAL_S,
        description=f"Asks for {model.key} to be trained when the newest day has {' or '.join(spec.retrain)}.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"environment"},
    )


def declared(spec: FeedbackSpec, catalog: Catalog, settings: Settings) -> Iterator[Declared]:
    """The assets as they are declared now, in their order; their rows are computed and nothing is written."""
    lake, digests = Lake(settings.lake_uri), spec.declarations(catalog)
    counts = store.logged_now(lake, spec)
    logged = {key: [store.logged_inputs(counts, key)] for key in published(lake, spec.log_key)}
    computed: dict[str, Callable[[Days], pa.Table]] = {
        spec.log_key: lambda days: _logged(spec, catalog, settings, days),
        spec.outcomes_key: lambda days: store.outcome_rows(settings, spec, catalog, days),
        spec.performance_key: lambda days: performance_of(spec, catalog, settings, days)[0],
    }
    for key, rows in computed.items():
        landed = logged if key == spec.log_key else None
        yield Declared(key, digests[key], rows, landed, landed_since=store.logged_since)


def _logged(spec: FeedbackSpec, catalog: Catalog, settings: Settings, days: Days) -> pa.Table:
    with store.logged(settings, spec, days) as found:
        return store.log_rows(found, spec, catalog)


def follow_log(spec: FeedbackSpec, step: Step) -> list[Outcome]:
    """Publish the predictions of some days as they are logged by now, then look at what they saw and said."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    outcomes: list[Outcome] = []
    with store.logged(settings, spec, step.partitions) as found:
        rows = store.log_rows(found, spec, step.catalog)
        made = _publish(spec, step, spec.log_key, rows, found.inputs)
        step.log.info("%s: %s predictions on %s", spec.log_key, f"{rows.num_rows:,}", spans(step.partitions))
        counts = reporting.counts(rows)
        scores = PredictionDrift(settings, spec, found.connection)
        features = TrainingDrift(settings, spec, step.catalog, found.connection)
        for key in step.partitions:
            versions = champions_of(found.connection, key)
            seen = consistency(found.connection, lake, step.catalog, spec.service(step.catalog), key)
            evaluations = (
                reporting.consistency_evaluation(seen),
                reporting.prediction_drift(spec, [scores.judge(version, key) for version in versions]),
                reporting.training_drift(spec, [features.judge(version, key) for version in versions]),
            )
            metadata = reporting.log_metadata(counts.get(key, []), seen)
            outcomes.append(_outcome(made[key], evaluations, metadata))
    return outcomes


def find_outcomes(spec: FeedbackSpec, step: Step) -> list[Outcome]:
    """Publish the predictions of some days with their labels, as these are known by now."""
    settings: Settings = step.resources.environment
    inputs = _inputs(spec.outcomes_key, step)
    rows = store.outcome_rows(settings, spec, step.catalog, step.partitions)
    made = _publish(spec, step, spec.outcomes_key, rows, inputs)
    said = reporting.outcomes_metadata(rows, spec.model_spec(step.catalog).task)
    return [_outcome(made[key], (), said.get(key, {})) for key in step.partitions]


def measure_versions(spec: FeedbackSpec, step: Step) -> list[Outcome]:
    """Publish how good each version was on some days, and say which are worse than when they were evaluated."""
    settings: Settings = step.resources.environment
    inputs = _inputs(spec.performance_key, step)
    rows, found = performance_of(spec, step.catalog, settings, step.partitions)
    made = _publish(spec, step, spec.performance_key, rows, inputs)
    return [
        _outcome(
            made[key],
            (reporting.concept_drift_evaluation(spec, found[key]),),
            reporting.performance_metadata(rows, key),
        )
        for key in step.partitions
    ]


def performance_of(
    spec: FeedbackSpec, catalog: Catalog, settings: Settings, days: Days
) -> tuple[pa.Table, dict[str, list[ConceptDrift]]]:
    """The performance table's rows of some days, and by day what became of each version that answered."""
    rows: list[dict[str, object]] = []
    verdicts: dict[str, list[ConceptDrift]] = {}
    for key in sorted(days):
        first = key_of(day(key) - (spec.window.whole_days - 1) * ONE_DAY)
        outcomes = store.counted_outcomes(settings, spec, catalog, first, key)
        found = list(_measured(spec, catalog, settings, by_version(outcomes, spec.entities(catalog)), key))
        rows += [row for of_day, _ in found for row in of_day]
        verdicts[key] = [verdict for _, verdict in found if verdict is not None]
    return pa.Table.from_pylist(rows, schema=PERFORMANCE), verdicts


def _measured(
    spec: FeedbackSpec, catalog: Catalog, settings: Settings, found: Sequence[Scored], key: str
) -> Iterator[tuple[list[dict[str, object]], ConceptDrift | None]]:
    """Rows and verdict of each version and role; only what was answered is judged."""
    model = spec.model_spec(catalog)
    for version in found:
        evaluation = store.evaluation_of(settings, spec.model, version.version)
        seed = seed_for(model, version.version, key)
        window = measured(model, version, evaluation, seed=seed)
        today = measured(model, version.of_day(np.datetime64(key)), evaluation, seed=seed)
        rows = performance_rows(version, 1, today, day(key))
        if spec.window.whole_days > 1:
            rows += performance_rows(version, spec.window.whole_days, window, day(key))
        (compared,) = (one for one in window if one.metric == model.metric)
        verdict = concept_drift(
            version.version,
            compared,
            margin=spec.margin,
            minimum_positives=spec.minimum_positives,
            days=spec.window.whole_days,
        )
        yield rows, verdict if version.answered else None


def _inputs(asset: str, step: Step) -> Mapping[str, str]:
    """What is read of each partition, before it is read; InputError when something was never published."""
    read = Inputs.of(asset, Lake(step.resources.environment.lake_uri), step.catalog.lineage)
    read.require(asset, step.partitions)
    return read.digests(asset, step.partitions)


def _publish(
    spec: FeedbackSpec, step: Step, asset: str, rows: pa.Table, inputs: Mapping[str, str]
) -> dict[str, Publication]:
    return store.publish(
        Lake(step.resources.environment.lake_uri),
        asset,
        rows,
        days=step.partitions,
        declaration=spec.declarations(step.catalog)[asset],
        inputs=inputs,
        run_id=step.run_id,
    )


def _outcome(
    made: Publication, evaluations: tuple[Evaluation, ...], metadata: Mapping[str, object]
) -> Outcome:
    return Outcome(
        partition=made.partition,
        published=True,
        evaluations=evaluations,
        metadata={
            "dagster/partition_row_count": made.rows,
            "content_hash": made.content_hash,
            "table_version": made.table_version,
            **metadata,
        },
        data_version=made.content_hash,
    )
