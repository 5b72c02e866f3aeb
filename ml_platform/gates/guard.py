"""May this partition be made? Asked of the event log, in whatever run, before a gated step does anything.

A gate is open when, for every upstream partition that the declared mappings reach, the latest evaluation of
each blocking check passed and judged the latest materialization. In-progress and crashed evaluations do not
count: the one before them does.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import dagster as dg
from dagster import DagsterEventType
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckPartitionInfo

from ml_platform.kernel.lineage import Days, Lineage
from ml_platform.kernel.partitions import day_range, key_of, spans
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.tables import Lake

Reason = Literal["failed", "not_evaluated", "outdated", "other_inputs", "missing"]


@dataclass(frozen=True)
class ClosedGate:
    """Why one upstream partition closes the gate, with what was seen and what was required."""

    asset: str
    check: str
    partitions: tuple[str, ...]
    reason: Reason
    observed: str = ""
    bound: str = ""
    run_id: str = ""

    def in_words(self) -> str:
        """One line for people."""
        where = f"{self.asset} [{spans(self.partitions)}] {self.check}"
        if self.reason == "failed":
            run = f", run {self.run_id[:8]}" if self.run_id else ""
            return f"{where}: {self.observed} (required: {self.bound}{run})"
        return f"{where}: {_EXPLANATIONS[self.reason]}"


_CAUSES_FIRST = (
    "failed",
    "outdated",
    "not_evaluated",
    "other_inputs",
    "missing",
)  # what is missing is often a consequence

_EXPLANATIONS = {
    "not_evaluated": "was materialized and never evaluated",
    "outdated": "was materialized again after its last evaluation",
    "other_inputs": "was made from rows that are no longer the published ones",
    "missing": "has no published version",
}


def closed_gates(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    key: str,
    partition: dt.date,
    *,
    itself: bool = False,
    lake: Lake | None = None,
) -> list[ClosedGate]:
    """Every upstream partition that keeps `key` at `partition` from being made, causes first; empty when open.

    With `itself`, the partition's own checks count too: may what was made be used? With a lake, what was
    judged must also have been made from the rows that are published now.
    """
    closed: list[ClosedGate] = []
    inputs = Inputs.now(lake, lineage) if lake is not None else None
    asked = lineage.upstream_days(key, partition)
    if itself:
        asked[key] = (partition, partition)
    for upstream, days in sorted(asked.items()):
        for check in lineage.node(upstream).blocking_checks:
            closed += _closed_by(instance, upstream, check, days)
        if inputs is not None and lineage.node(upstream).upstream:
            closed += _made_from_others(inputs, upstream, days)
    return sorted(closed, key=lambda gate: _CAUSES_FIRST.index(gate.reason))


def _made_from_others(inputs: Inputs, asset: str, days: Days) -> list[ClosedGate]:
    """Days of an asset whose inputs were published again, with other content as of their time, since they were read."""
    mine = inputs.publications.get(asset, {})
    outdated = tuple(
        key
        for key in map(key_of, day_range(*days))
        if key in mine and mine[key].inputs != inputs.digest(asset, key)
    )
    return [ClosedGate(asset, "inputs", outdated, "other_inputs")] if outdated else []


def latest_states(instance: dg.DagsterInstance, asset: str, check: str) -> dict[str | None, bool]:
    """Whether the latest evaluation of each partition of an asset's check passed; planned ones are left out."""
    key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    found = instance.event_log_storage.get_asset_check_partition_info([key])
    return {
        info.partition_key: info.latest_execution_status == Status.SUCCEEDED
        for info in found
        if info.latest_execution_status != Status.PLANNED
    }


def require_open(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    key: str,
    partition: dt.date,
    *,
    itself: bool = False,
    lake: Lake | None = None,
) -> None:
    """Raise a Failure that says what closes the gate and how to get out; return when it is open."""
    closed = closed_gates(instance, lineage, key, partition, itself=itself, lake=lake)
    if closed:
        raise dg.Failure(
            refusal_text(key, key_of(partition), closed),
            metadata={
                "closed_gates": dg.MetadataValue.md("\n".join(f"- {gate.in_words()}" for gate in closed))
            },
            allow_retries=False,
        )


def refusal_text(key: str, partition: str, closed: Sequence[ClosedGate]) -> str:
    """The refusal as on-call people read it: what, why, what follows, what to do."""
    lines = [f"{key} [{partition}] is refused: {len(closed)} blocking check(s) upstream have not passed."]
    lines += [f"  - {gate.in_words()}" for gate in closed]
    lines.append(
        f"Nothing was changed. To see it again: ml-platform gate status {key} --partition {partition}"
    )
    ways = sorted({way for gate in closed if (way := _way_out(gate))})
    return "\n".join(lines + [f"Way out: {way}" for way in ways])


def _way_out(gate: ClosedGate) -> str:
    first = gate.partitions[0]
    if gate.reason == "failed" and gate.check in ("drift", "label_drift"):
        return f"if the change is real: ml-platform drift accept {gate.asset} {first} --reason '…'"
    if gate.reason == "failed":
        return (
            f"deliver {gate.asset} {first} again: ml-platform ingest … --replaces DIGEST, then materialize it"
        )
    if gate.reason == "other_inputs":
        return (
            f"materialize {gate.asset} {spans(gate.partitions)}; first ml-platform stale {gate.asset}, which says why, "
            f"and clears those that would come out the same"
        )
    return f"materialize {gate.asset} {spans(gate.partitions)}"


def _closed_by(instance: dg.DagsterInstance, asset: str, check: str, days: Days) -> list[ClosedGate]:
    key = dg.AssetKey(asset.split("/"))
    check_key = dg.AssetCheckKey(key, check)
    storage = instance.event_log_storage
    wanted = [key_of(date) for date in day_range(*days)]
    latest = storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
    states = {info.partition_key: info for info in storage.get_asset_check_partition_info([check_key])}
    closed: list[ClosedGate] = []
    pending: dict[Reason, list[str]] = {}
    for partition in wanted:
        reason, gate = _judge(instance, check_key, partition, latest.get(partition), states.get(partition))
        if gate is not None:
            closed.append(gate)
        elif reason is not None:
            pending.setdefault(reason, []).append(partition)
    closed += [ClosedGate(asset, check, tuple(found), reason) for reason, found in pending.items()]
    return closed


def _judge(
    instance: dg.DagsterInstance,
    check: dg.AssetCheckKey,
    partition: str,
    materialized: int | None,
    state: AssetCheckPartitionInfo | None,
) -> tuple[Reason | None, ClosedGate | None]:
    """Why one partition closes the gate; a failed evaluation comes with its record's words."""
    if state is not None and state.latest_execution_status == Status.SUCCEEDED:
        current = state.latest_target_materialization_storage_id == materialized
        return (None if current and materialized is not None else "outdated"), None
    if state is None:
        return ("missing" if materialized is None else "not_evaluated"), None
    return _judge_record(instance, check, partition, materialized)


def _judge_record(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, partition: str, materialized: int | None
) -> tuple[Reason | None, ClosedGate | None]:
    """Judge by the latest completed evaluation, for a failed state or one that a run has only planned."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        check,
        limit=1,
        status={Status.SUCCEEDED, Status.FAILED},
        partition_filter=PartitionKeyFilter(key=partition),
    )
    evaluation = records[0].evaluation if records else None
    if evaluation is None:
        return ("missing" if materialized is None else "not_evaluated"), None
    if evaluation.passed:
        target = evaluation.target_materialization_data
        current = target is not None and target.storage_id == materialized
        return (None if current else "outdated"), None
    words = {
        name: str(value.value) for name, value in evaluation.metadata.items() if name in ("observed", "bound")
    }
    asset = check.asset_key.to_user_string()
    gate = ClosedGate(
        asset,
        check.name,
        (partition,),
        "failed",
        observed=words.get("observed", "failed"),
        bound=words.get("bound", "pass"),
        run_id=records[0].run_id,
    )
    return "failed", gate
