"""Gates that people open for a while: the guard lets through, nothing is published, and it closes on its own."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from ml_platform.gates.evaluations import latest_evaluations, told
from ml_platform.gates.guard import ClosedGate, Known, closed_by
from ml_platform.gates.outcomes import DECLARED, JUDGED, PUBLISHED, Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.gates.ways_out import OVERRIDDEN_RUN, UNTIL, WAYS_OUT, line, overridden_until
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Check
from ml_platform.lake.tables import Lake

_KEPT = {PUBLISHED: True, JUDGED: "", OVERRIDDEN_RUN: ""}
"""What the failure behind an override still says when the override has ended, and what it says if it never did."""


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
    """Open one closed gate until a time; returns what had closed it. See `override_each`."""
    return override_each(instance, lake, [asked], now=now)[0]


def override_each(
    instance: dg.DagsterInstance, lake: Lake, asked: Sequence[Override], *, now: dt.datetime
) -> list[ClosedGate]:
    """Open closed gates until a time, all of them or none; returns what had closed each.

    What is overridden now can be overridden for longer or shorter. Raises InputError, with nothing changed, for a gate
    that is open, a time that has passed, a partition without a published version, which no override can stand in for,
    or without a reason.
    """
    opened: list[tuple[dict[str, Any], dg.AssetCheckEvaluation, ClosedGate]] = []
    for one in asked:
        if one.until <= now:
            raise InputError(
                f"until requires a time after {now:%Y-%m-%d %H:%M} UTC; got {one.until:%Y-%m-%d %H:%M}. "
                f"Nothing was changed"
            )
        key = dg.AssetKey(one.asset.split("/"))
        target = materialization_targets(instance, key, [one.partition]).get(one.partition)
        gate, judged = _closed_gate(instance, lake, one, published=target is not None)
        evaluation = _passed_until(_stamp(one.until), one, gate, judged)
        event = evaluation_event(key, one.partition, evaluation, target)
        opened.append((_entry(one, evidence=gate.observed), event, gate))
    WAYS_OUT.append(lake, [entry for entry, _, _ in opened])
    for _, event, _ in opened:
        report_evaluation(instance, event)
    return [gate for _, _, gate in opened]


def end_override(instance: dg.DagsterInstance, lake: Lake, asked: Override) -> None:
    """Close a gate again before its override ends by itself: it ends at `asked.until`, which is now.

    Raises InputError, with nothing changed, where no override has yet to end, or without a reason.
    """
    until = overridden_until(lake, asked.asset, asked.check.name, asked.partition)
    if not until or dt.datetime.fromisoformat(until) <= asked.until:
        came = f"the newest one ended at {until}" if until else "there never was one"
        raise InputError(
            f"{asked.where}: an override that has not ended is required; {came}. Nothing was changed; see: "
            f"ml-platform gate status {asked.asset} --partition {asked.partition}"
        )
    WAYS_OUT.append(lake, [_entry(asked, evidence=f"an override until {until}")])
    _close(instance, asked.asset, asked.check.name, asked.partition, ended=_stamp(asked.until))


def _entry(asked: Override, *, evidence: str) -> dict[str, Any]:
    """The line of the ledger."""
    return line(
        "override",
        asked.asset,
        asked.partition,
        check=asked.check.name,
        reason=asked.reason,
        actor=asked.actor,
        evidence=evidence,
        until=_stamp(asked.until),
    )


def _stamp(time: dt.datetime) -> str:
    return time.isoformat(timespec="seconds")


def close_expired(instance: dg.DagsterInstance, lake: Lake, *, now: dt.datetime) -> list[ClosedGate]:
    """Evaluate as failed again what ended overrides still show as passed; those that were closed.

    The guard does not wait for it: it reads the ledger. This is for the UI and for automation, which do not.
    """
    ends = {
        (entry["asset"], entry["check"], entry["partition"]): entry["until"]
        for entry in WAYS_OUT.entries(lake, way=["override"])
    }
    over = [case for case, until in ends.items() if dt.datetime.fromisoformat(until) <= now]
    return [gate for case in over if (gate := _close(instance, *case, ended=ends[case])) is not None]


def close_ended(instance: dg.DagsterInstance, lake: Lake, asset: str, check: str, partition: str) -> None:
    """The same for one partition, so that nobody who acts on its failure has to wait for a sensor."""
    until = overridden_until(lake, asset, check, partition)
    if until and dt.datetime.fromisoformat(until) <= dt.datetime.now(dt.UTC):
        _close(instance, asset, check, partition, ended=until)


def _closed_gate(
    instance: dg.DagsterInstance, lake: Lake, asked: Override, *, published: bool
) -> tuple[ClosedGate, str]:
    """What closes the gate, and the content that was judged; InputError if nothing does, or nothing is published.

    Behind an override, also one that has not ended, that is what it overrides.
    """
    known = Known.now(lake, asked.asset)
    found = closed_by(instance, asked.asset, asked.check, [asked.partition], known=known)
    latest = latest_evaluations(instance, asked.asset, asked.check.name, [asked.partition])
    record = latest.get(asked.partition)
    evaluation = record.evaluation if record is not None else None
    if not found and record is not None and evaluation is not None and told(evaluation, UNTIL):
        found = [ClosedGate.by_evaluation(evaluation, run_id=record.run_id, published=True, reason="expired")]
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
    if not gate.observed:
        gate = replace(gate, observed=gate.explanation, bound="an evaluation that passed")
    return gate, str(told(evaluation, JUDGED)) if evaluation is not None else ""


def _passed_until(until: str, asked: Override, gate: ClosedGate, judged: str) -> Evaluation:
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
            OVERRIDDEN_RUN: gate.run_id,
            JUDGED: judged,
            PUBLISHED: not gate.refused,
        },
        declared=asked.check.digest,
    )


def _close(
    instance: dg.DagsterInstance, asset: str, check: str, partition: str, *, ended: str
) -> ClosedGate | None:
    """Report the failure that an override stood for; None when something else was evaluated since."""
    record = latest_evaluations(instance, asset, check, [partition]).get(partition)
    evaluation = record.evaluation if record is not None else None
    if evaluation is None or not evaluation.passed or not told(evaluation, UNTIL):
        return None
    observed, bound = (str(told(evaluation, f"overridden_{name}")) for name in ("observed", "bound"))
    failed = Evaluation(
        check,
        passed=False,
        observed=f"{observed} (an override of it ended at {ended})",
        bound=bound,
        metadata={name: told(evaluation, name, default) for name, default in _KEPT.items()},
        declared=str(told(evaluation, DECLARED)),
    )
    target = evaluation.target_materialization_data
    report_evaluation(instance, evaluation_event(evaluation.asset_key, partition, failed, target))
    return ClosedGate(asset, check, (partition,), "failed", failed.observed, bound)
