"""Gates that people open for a while: the guard lets through, nothing is published, and it closes on its own."""

import datetime as dt
from dataclasses import dataclass, replace

import dagster as dg

from ml_platform.gates.evaluations import latest_evaluations, told
from ml_platform.gates.guard import ClosedGate, closed_by
from ml_platform.gates.outcomes import DECLARED, PUBLISHED, Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.gates.ways_out import UNTIL, WAYS_OUT, line
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Check
from ml_platform.lake.tables import Lake


@dataclass(frozen=True)
class Override:
    """Who opens which gate until when (UTC), and why."""

    asset: str
    check: Check
    partition: str
    until: dt.datetime
    reason: str
    actor: str

    @property
    def where(self) -> str:
        return f"{self.asset} [{self.partition}] {self.check.name}"


def override(instance: dg.DagsterInstance, lake: Lake, asked: Override, *, now: dt.datetime) -> ClosedGate:
    """Open one closed gate until a time; returns what had closed it.

    Raises InputError, with nothing changed, for a gate that is open, a time that has passed, a partition without
    a published version, which no override can stand in for, or without a reason.
    """
    if asked.until <= now:
        raise InputError(
            f"--until requires a time after {now:%Y-%m-%d %H:%M} UTC; got {asked.until:%Y-%m-%d %H:%M}. "
            f"Nothing was changed"
        )
    key = dg.AssetKey(asked.asset.split("/"))
    target = materialization_targets(instance, key, [asked.partition]).get(asked.partition)
    gate = _closed_gate(instance, lake, asked, published=target is not None)
    until = asked.until.isoformat(timespec="seconds")
    entry = line(
        "override",
        asked.asset,
        asked.partition,
        check=asked.check.name,
        reason=asked.reason,
        actor=asked.actor,
        evidence=gate.observed,
        until=until,
    )
    WAYS_OUT.append(lake, [entry])
    evaluation = _passed_until(until, asked, gate)
    report_evaluation(instance, evaluation_event(key, asked.partition, evaluation, target))
    return gate


def close_expired(instance: dg.DagsterInstance, lake: Lake, *, now: dt.datetime) -> list[ClosedGate]:
    """Evaluate as failed again what ended overrides still show as passed; those that were closed.

    The guard does not wait for it: it reads the ledger. This is for the UI and for automation, which do not.
    """
    ends = {
        (entry["asset"], entry["check"], entry["partition"]): entry["until"]
        for entry in WAYS_OUT.entries(lake, way=["override"])
    }
    over = [case for case, until in ends.items() if dt.datetime.fromisoformat(until) <= now]
    return [gate for case in over if (gate := _close(instance, *case)) is not None]


def _closed_gate(instance: dg.DagsterInstance, lake: Lake, asked: Override, *, published: bool) -> ClosedGate:
    """What closes the gate now; InputError when nothing does, or when nothing is published."""
    found = closed_by(instance, asked.asset, asked.check, [asked.partition], lake=lake)
    if not published:
        raise InputError(
            f"{asked.where}: a published version is required to override, and there is none. Nothing was changed; "
            f"materialize {asked.asset} {asked.partition}"
        )
    if not found:
        raise InputError(
            f"{asked.where}: a closed gate is required to override; it is open. Nothing was changed; see: "
            f"ml-platform gate status {asked.asset} --partition {asked.partition}"
        )
    gate = found[0]
    return (
        gate if gate.observed else replace(gate, observed=gate.explanation, bound="an evaluation that passed")
    )


def _passed_until(until: str, asked: Override, gate: ClosedGate) -> Evaluation:
    """The evaluation of an override, with all that is needed to evaluate the failure again when it ends."""
    return Evaluation(
        asked.check.name,
        passed=True,
        observed=f"overridden by {asked.actor} until {until}: {asked.reason} (was: {gate.observed})",
        bound=gate.bound,
        metadata={
            UNTIL: until,
            "overridden_observed": gate.observed,
            "overridden_bound": gate.bound,
            PUBLISHED: not gate.refused,
        },
        declared=asked.check.digest,
    )


def _close(instance: dg.DagsterInstance, asset: str, check: str, partition: str) -> ClosedGate | None:
    """Report the failure that an override stood for; None when something else was evaluated since."""
    record = latest_evaluations(instance, asset, check, [partition]).get(partition)
    evaluation = record.evaluation if record is not None else None
    if evaluation is None or not evaluation.passed or not told(evaluation, UNTIL):
        return None
    observed, bound = (str(told(evaluation, f"overridden_{name}")) for name in ("observed", "bound"))
    failed = Evaluation(
        check,
        passed=False,
        observed=f"{observed} (an override of it ended at {told(evaluation, UNTIL)})",
        bound=bound,
        metadata={PUBLISHED: told(evaluation, PUBLISHED, True)},
        declared=str(told(evaluation, DECLARED)),
    )
    target = evaluation.target_materialization_data
    report_evaluation(instance, evaluation_event(evaluation.asset_key, partition, failed, target))
    return ClosedGate(asset, check, (partition,), "failed", failed.observed, bound)
