"""Ways out of a closed gate that people take: recorded in a ledger and as an evaluation in Dagster."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)

from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.kernel.errors import InputError
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake

ACCEPTANCES = Ledger(
    "acceptances",
    {
        "asset": pa.string(),
        "check": pa.string(),
        "partition": pa.string(),
        "judged": pa.string(),
        "new_regime": pa.bool_(),
        "reason": pa.string(),
        "actor": pa.string(),
        "evidence": pa.string(),
    },
)


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
    if not acceptance.reason.strip():
        raise InputError("--reason is required: say why this change is real; nothing was accepted")
    key = dg.AssetKey(acceptance.asset.split("/"))
    failed = _failed_evaluation(instance, key, acceptance)
    target = _judged_materialization(instance, key, acceptance, failed)
    seen = failed.metadata.get("observed")
    observed = str(seen.value) if seen is not None else (failed.description or "failed")
    judged = failed.metadata.get("judged")
    content = str(judged.value) if judged is not None else ""
    entry: dict[str, Any] = {**acceptance.__dict__, "evidence": observed, "judged": content}
    evaluation = Evaluation(
        acceptance.check,
        passed=True,
        observed=f"accepted by {acceptance.actor}: {acceptance.reason} (was: {observed})",
        metadata={
            "accepted_by": acceptance.actor,
            "reason": acceptance.reason,
            "new_regime": acceptance.new_regime,
            "judged": content,
        },
    )
    ACCEPTANCES.append(lake, [entry])
    report_evaluation(instance, evaluation_event(key, acceptance.partition, evaluation, target))
    return observed


def accepted(lake: Lake, asset: str, check: str) -> dict[str, Accepted]:
    """The newest acceptance of each partition of an asset's check."""
    return {
        entry["partition"]: Accepted(entry["judged"], entry["new_regime"])
        for entry in ACCEPTANCES.entries(lake)
        if (entry["asset"], entry["check"]) == (asset, check)
    }


def _failed_evaluation(
    instance: dg.DagsterInstance, key: dg.AssetKey, acceptance: Acceptance
) -> dg.AssetCheckEvaluation:
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key, acceptance.check),
        limit=1,
        status={Status.SUCCEEDED, Status.FAILED},
        partition_filter=PartitionKeyFilter(key=acceptance.partition),
    )
    evaluation = records[0].evaluation if records else None
    if evaluation is None or evaluation.passed:
        found = "it passed" if evaluation is not None else "it was never evaluated"
        raise InputError(
            f"{acceptance.asset} [{acceptance.partition}] {acceptance.check}: a failed evaluation is required to "
            f"accept; {found}. Nothing was changed; see: ml-platform gate status {acceptance.asset} "
            f"--partition {acceptance.partition}"
        )
    return evaluation


def _judged_materialization(
    instance: dg.DagsterInstance, key: dg.AssetKey, acceptance: Acceptance, failed: dg.AssetCheckEvaluation
) -> Target:
    """The published version that the failed evaluation judged; InputError when it judged something else."""
    where = f"{acceptance.asset} [{acceptance.partition}]"
    latest = materialization_targets(instance, key, [acceptance.partition]).get(acceptance.partition)
    published = failed.metadata.get("published")
    if latest is None or (published is not None and not published.value):
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
