"""Records what a step found, so that the UI, the guard and automation see the same thing per partition.

Dagster's own bookkeeping covers one partition or none. For a range, an evaluation counts as current only if
it names the materialization that it judged, so materializations come first and evaluations point at them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.events import DagsterEvent
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)
from dagster._core.instance.utils import RUNLESS_JOB_NAME
from dagster._core.utils import make_new_run_id

from ml_platform.gates.evaluations import latest_materializations
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import spans

# Dagster logs nothing for an output with this metadata, and goes on with the steps after it.
_LOGGED_BY_HAND = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}


def record(context: dg.AssetExecutionContext, outcomes: Sequence[Outcome]) -> Iterator[Any]:
    """Yield the events for all outcomes of a step; raises Failure that names what did not pass.

    Published partitions are materialized whether or not their checks passed (a drift profile exists
    although it drifted); refused ones are not. Every partition gets its evaluations either way.
    """
    _require_told(context, outcomes)
    published = [outcome for outcome in outcomes if outcome.published]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    whole = len(published) == len(outcomes) and not failed
    alone = whole and len(outcomes) == 1
    if alone:
        yield _materialize_result(outcomes[0])
    else:
        yield from _materializations(context, published)
    # Dagster knows the partition of a result only in a run of one partition, which a range of one day is not.
    logged_by_dagster = _asked(context) if alone and context.has_partition_key else ()
    yield from _evaluations(context, outcomes, but=logged_by_dagster)
    if not whole:
        raise refusal(context.asset_key, failed)
    if len(outcomes) > 1:
        yield dg.MaterializeResult(metadata=_LOGGED_BY_HAND)
    yield from _step_results(context, outcomes)


def evaluation_event(
    key: dg.AssetKey, partition: str | None, evaluation: Evaluation, target: Target | None
) -> AssetCheckEvaluation:
    """The event for one evaluation of one partition, pointing at the materialization that it judges."""
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=evaluation.check,
        passed=evaluation.passed,
        metadata=evaluation.all_metadata(),
        description=evaluation.observed or None,
        severity=_severity(evaluation),
        blocking=evaluation.blocking,
        partition=partition,
        target_materialization_data=target,
    )


def report_evaluation(
    instance: dg.DagsterInstance, event: AssetCheckEvaluation, *, run_id: str | None = None
) -> None:
    """Report an evaluation that no run made, under an id of its own or one that other checks share.

    Dagster's runless events share one id, and keep only one evaluation per check, partition and id; a new id costs a
    tenth of a second, as SQLite has a file for each.
    """
    reported = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
        event_specific_data=event,
        job_name=RUNLESS_JOB_NAME,
    )
    instance.report_dagster_event(reported, run_id=run_id or make_new_run_id())


def report_outcomes(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    outcomes: Iterable[Outcome],
    judged: Mapping[str | None, Target],
) -> None:
    """Report what was found of partitions that no run made, each of the materialization that it judged.

    All share one run id, which is new.
    """
    run_id = make_new_run_id()
    for outcome in outcomes:
        for evaluation in outcome.evaluations:
            event = evaluation_event(key, outcome.partition, evaluation, judged[outcome.partition])
            report_evaluation(instance, event, run_id=run_id)


def refusal(key: dg.AssetKey, failed: Sequence[Outcome]) -> dg.Failure:
    """The step's failure in words: which partitions, which checks, what was seen and required."""
    name = key.to_user_string()
    days = spans([outcome.partition for outcome in failed if outcome.partition])
    lines = [f"  {outcome.partition or name}: {outcome.failures()}" for outcome in failed]
    kept = "" if any(o.published for o in failed) else " It was not published; the last good version stays."
    text = f"{name}: blocking checks failed for {days or 'this asset'}.{kept}\n" + "\n".join(lines)
    return dg.Failure(text, metadata={"failed_partitions": days or name}, allow_retries=False)


def materialization_targets(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str | None]
) -> dict[str | None, Target]:
    """The latest materialization of each partition, as what an evaluation points at."""
    found = latest_materializations(instance, key.to_user_string(), partitions)
    records_by_id = {record.storage_id: record for record in _records(instance, key, found)}
    return {
        partition: Target(storage_id=storage_id, run_id=record.run_id, timestamp=record.timestamp)
        for partition, storage_id in found.items()
        if (record := records_by_id.get(storage_id)) is not None
    }


def _records(
    instance: dg.DagsterInstance, key: dg.AssetKey, found: dict[str | None, int]
) -> Sequence[dg.EventLogRecord]:
    if not found:
        return []
    return instance.event_log_storage.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, storage_ids=sorted(found.values())), limit=len(found)
    ).records


def _require_told(context: dg.AssetExecutionContext, outcomes: Sequence[Outcome]) -> None:
    """Every step tells at least one outcome, and every outcome what each declared check said: silence never passes."""
    if not outcomes:
        raise ValueError(f"{context.asset_key.to_user_string()}: a step tells at least one outcome; got none")
    declared = {spec.name for spec in context.assets_def.check_specs}
    for outcome in outcomes:
        told = [evaluation.check for evaluation in outcome.evaluations]
        if sorted(told) != sorted(declared):
            raise ValueError(
                f"{context.asset_key.to_user_string()} [{outcome.partition}]: one evaluation of each of "
                f"{sorted(declared)} is required; got {told}"
            )


def _materialize_result(outcome: Outcome) -> dg.MaterializeResult:
    version = dg.DataVersion(outcome.data_version) if outcome.data_version else None
    return dg.MaterializeResult(metadata=dict(outcome.metadata), data_version=version)


def _materializations(
    context: dg.AssetExecutionContext, published: Sequence[Outcome]
) -> Iterator[dg.AssetMaterialization]:
    """Materializations by hand, with the version tags that Dagster sets on its own.

    Dagster would give all partitions of a range one data version; a partition's own is its content's.
    """
    step = context.get_step_execution_context()
    for outcome in published:
        tags = _build_data_version_tags(
            dg.DataVersion(outcome.data_version or digest_of([context.run.run_id, outcome.partition])),
            _get_code_version(context.asset_key, step),
            _get_input_provenance_data(context.asset_key, step),
            data_version_is_user_provided=outcome.data_version is not None,
        )
        yield dg.AssetMaterialization(
            asset_key=context.asset_key, partition=outcome.partition, metadata=outcome.metadata, tags=tags
        )


def _evaluations(
    context: dg.AssetExecutionContext, outcomes: Sequence[Outcome], *, but: Collection[str]
) -> Iterator[AssetCheckEvaluation]:
    """Every evaluation of every partition, except of checks that Dagster itself will log as well and as fully."""
    told = [(outcome, e) for outcome in outcomes for e in outcome.evaluations if e.check not in but]
    partitions = [outcome.partition for outcome, _ in told]
    targets = materialization_targets(context.instance, context.asset_key, partitions) if told else {}
    for outcome, evaluation in told:
        judged = evaluation if outcome.published else evaluation.of_refused()
        yield evaluation_event(context.asset_key, outcome.partition, judged, targets.get(outcome.partition))


def _asked(context: dg.AssetExecutionContext) -> set[str]:
    """The checks that Dagster asks of this step: it may be told to leave some out, which are evaluated all the same."""
    return {key.name for key in context.selected_asset_check_keys}


def _step_results(
    context: dg.AssetExecutionContext, outcomes: Sequence[Outcome]
) -> Iterator[dg.AssetCheckResult]:
    """The results that Dagster asks of the step itself; the blocking ones passed, or the step has failed before."""
    single = outcomes[0] if len(outcomes) == 1 else None
    for check in sorted(_asked(context)):
        evaluation = next((e for e in single.evaluations if e.check == check), None) if single else None
        metadata = evaluation.all_metadata() if evaluation else {"partitions": len(outcomes)}
        yield dg.AssetCheckResult(
            check_name=check,
            passed=evaluation is None or evaluation.passed,  # of a range, each partition has its own
            severity=_severity(evaluation) if evaluation else dg.AssetCheckSeverity.ERROR,
            metadata=metadata,
            description=(evaluation.observed or None) if evaluation else None,
        )


def _severity(evaluation: Evaluation) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if evaluation.blocking else dg.AssetCheckSeverity.WARN
