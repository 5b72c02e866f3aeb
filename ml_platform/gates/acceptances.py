"""Drift that people let through: for good, for the content that was judged, and out of references."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from ml_platform.gates.evaluations import latest_evaluations, told
from ml_platform.gates.outcomes import DECLARED, JUDGED, PUBLISHED, Evaluation
from ml_platform.gates.overrides import close_ended
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.gates.ways_out import WAYS_OUT, line, require_reason
from ml_platform.kernel.errors import InputError
from ml_platform.lake.tables import Lake


@dataclass(frozen=True)
class Acceptance:
    """Who lets which failed evaluation through, and why. `new_regime` restarts references at this day."""

    asset: str
    check: str
    partition: str
    reason: str
    actor: str
    new_regime: bool = False


@dataclass(frozen=True)
class Accepted:
    """What was let through: the content that the accepted evaluation judged, and whether it began a new regime."""

    judged: str
    new_regime: bool


def accept(instance: dg.DagsterInstance, lake: Lake, acceptance: Acceptance) -> str:
    """Let what one partition holds now through for good; returns what had been observed.

    The acceptance is of the content that the failed evaluation judged: other rows in its place are judged
    again. Raises InputError when there is no failed evaluation of what is published, or no reason is given.
    """
    require_reason(acceptance.reason, "this change is real", nothing="accepted")
    close_ended(instance, lake, acceptance.asset, acceptance.check, acceptance.partition)
    key = dg.AssetKey(acceptance.asset.split("/"))
    failed = _failed_evaluation(instance, acceptance)
    target = _judged_materialization(instance, key, acceptance, failed)
    observed = str(told(failed, "observed") or failed.description or "failed")
    content = str(told(failed, JUDGED))
    evaluation = Evaluation(
        acceptance.check,
        passed=True,
        observed=f"accepted by {acceptance.actor}: {acceptance.reason} (was: {observed})",
        metadata={
            "accepted_by": acceptance.actor,
            "reason": acceptance.reason,
            "new_regime": acceptance.new_regime,
            JUDGED: content,
        },
        declared=str(told(failed, DECLARED)),
    )
    entry = line(
        "accept",
        acceptance.asset,
        acceptance.partition,
        check=acceptance.check,
        reason=acceptance.reason,
        actor=acceptance.actor,
        evidence=observed,
        judged=content,
        new_regime=acceptance.new_regime,
    )
    WAYS_OUT.append(lake, [entry])
    report_evaluation(instance, evaluation_event(key, acceptance.partition, evaluation, target))
    return observed


def accepted(lake: Lake, asset: str, check: str) -> dict[str, Accepted]:
    """The newest acceptance of each partition of an asset's check."""
    return {
        entry["partition"]: Accepted(entry["judged"], entry["new_regime"])
        for entry in WAYS_OUT.entries(lake, way=["accept"], asset=[asset], check=[check])
    }


def _failed_evaluation(instance: dg.DagsterInstance, acceptance: Acceptance) -> dg.AssetCheckEvaluation:
    asset, check, partition = acceptance.asset, acceptance.check, acceptance.partition
    record = latest_evaluations(instance, asset, check, [partition]).get(partition)
    evaluation = record.evaluation if record is not None else None
    if evaluation is None or evaluation.passed:
        found = "it passed" if evaluation is not None else "it was never evaluated"
        raise InputError(
            f"{asset} [{partition}] {check}: a failed evaluation is required to accept; {found}. Nothing was "
            f"changed; see: ml-platform gate status {asset} --partition {partition}"
        )
    return evaluation


def _judged_materialization(
    instance: dg.DagsterInstance, key: dg.AssetKey, acceptance: Acceptance, failed: dg.AssetCheckEvaluation
) -> Target:
    """The published version that the failed evaluation judged; InputError when it judged something else."""
    where = f"{acceptance.asset} [{acceptance.partition}]"
    latest = materialization_targets(instance, key, [acceptance.partition]).get(acceptance.partition)
    if latest is None or not told(failed, PUBLISHED, True):
        raise InputError(
            f"{where}: a failed evaluation of a published version is required; the failed rows were refused and "
            f"not published. Nothing was changed. A refused delivery cannot be accepted: deliver it again"
        )
    judged = failed.target_materialization_data
    if judged is None or judged.storage_id != latest.storage_id:
        raise InputError(
            f"{where} {acceptance.check}: a failed evaluation of the newest version is required; it was "
            f"materialized again and not evaluated since. Nothing was changed; materialize {acceptance.asset} "
            f"{acceptance.partition} to have it evaluated"
        )
    return latest
