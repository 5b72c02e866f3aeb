"""Checks that failed since the last look: gates that closed, and warnings that hold nothing up."""

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType, EventLogEntry

from ml_platform.gates.evaluations import history, told
from ml_platform.gates.guard import ClosedGate, ways_out
from ml_platform.notifications.compute import Happening
from ml_platform.notifications.events import Scope, events_after, time_of

_BEFORE = 20  # evaluations of one partition in which the one before is looked for


def failed_since(instance: dg.DagsterInstance, scope: Scope, after: int) -> tuple[list[Happening], int]:
    """Gates that closed and checks that warned after a position, and the position up to which was read.

    A failed evaluation is news unless the one before it had found the same.
    """
    found: list[Happening] = []
    read = events_after(instance, DagsterEventType.ASSET_CHECK_EVALUATION, after)
    for entry in read.values():
        evaluation = _evaluation(entry)
        event = "gate_closed" if evaluation.blocking else "check_warned"
        if evaluation.passed or not scope.wants(event, evaluation.asset_key.to_user_string()):
            continue
        if not _was_failed(instance, entry, evaluation):
            tell = _closed if evaluation.blocking else _warned
            found.append(tell(scope, entry, evaluation))
    return found, max(read, default=after)


def _closed(scope: Scope, entry: EventLogEntry, evaluation: AssetCheckEvaluation) -> Happening:
    asset, partition = evaluation.asset_key.to_user_string(), evaluation.partition
    node = scope.lineage.nodes.get(asset)
    gate = ClosedGate.by_evaluation(
        evaluation,
        run_id=entry.run_id,
        published=evaluation.target_materialization_data is not None,
        delivered=node is not None and not node.upstream,
    )
    return Happening(
        "gate_closed",
        f"{asset} {gate.check}",
        asset,
        headline=f"Gate closed: {{where}} {gate.check}",
        words=gate.in_words(),
        identity=(partition, entry.run_id),
        happened_at=time_of(entry.timestamp),
        partition=partition,
        run_id=entry.run_id,
        footer=tuple(_what_follows(scope, gate)),
        details={"check": gate.check, "observed": gate.observed, "bound": gate.bound},
    )


def _warned(_: Scope, entry: EventLogEntry, evaluation: AssetCheckEvaluation) -> Happening:
    asset, partition, check = (
        evaluation.asset_key.to_user_string(),
        evaluation.partition,
        evaluation.check_name,
    )
    observed, bound = str(told(evaluation, "observed", "failed")), str(told(evaluation, "bound", "pass"))
    where = f"{asset} [{partition}]" if partition else asset
    return Happening(
        "check_warned",
        f"{asset} {check}",
        asset,
        headline=f"Warning: {{where}} {check}",
        words=f"{where} {check}: {observed} (required: {bound}, run {entry.run_id[:8]})",
        identity=(partition, entry.run_id),
        happened_at=time_of(entry.timestamp),
        partition=partition,
        run_id=entry.run_id,
        footer=("Nothing is refused because of it.",),
        details={"check": check, "observed": observed, "bound": bound},
    )


def _what_follows(scope: Scope, gate: ClosedGate) -> list[str]:
    """What is refused now, how to look at it, and the ways out, as the refusal says them."""
    lines = ["It was not published; the last good version stays."] if gate.refused else []
    refused = scope.refused_by(gate.asset)
    if refused:
        lines.append(f"Until it passes these are refused where they read it: {', '.join(refused)}.")
    for partition in gate.partitions:
        reader = next((key for key in refused if scope.reads(key, partition, gate.asset)), None)
        if reader is not None:
            lines.append(f"To see it again: ml-platform gate explain {reader} --partition {partition}")
        lines += [f"Way out: {way}" for way in ways_out(gate)]
    return lines


def _was_failed(instance: dg.DagsterInstance, entry: EventLogEntry, evaluation: AssetCheckEvaluation) -> bool:
    """Had the evaluation before found the same? Then this is no news."""
    asset, partition = evaluation.asset_key.to_user_string(), evaluation.partition
    records = history(instance, asset, evaluation.check_name, [partition], limit=_BEFORE)
    earlier = [
        record.event
        for record in records
        if record.event is not None
        and record.run_id != entry.run_id
        and record.event.timestamp < entry.timestamp
    ]
    if not earlier:
        return False
    before = _evaluation(max(earlier, key=lambda event: event.timestamp))
    return not before.passed and _outcome(before) == _outcome(evaluation)


def _evaluation(entry: EventLogEntry) -> AssetCheckEvaluation:
    found = entry.get_dagster_event().event_specific_data
    assert isinstance(found, AssetCheckEvaluation)
    return found


def _outcome(evaluation: AssetCheckEvaluation) -> list[str]:
    """What an evaluation saw, what it required, and which content it judged."""
    return [str(told(evaluation, name)) for name in ("observed", "bound", "judged")]
