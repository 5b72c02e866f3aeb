"""May this partition be made? Asked of the event log, in whatever run, before a gated step does anything.

A gate is open when, for every upstream partition that the declared mappings reach, the latest evaluation of
each blocking check passed, judged the latest materialization, and judged it by what is declared now. Planned
and crashed evaluations do not count: the one before them does. A step that published or refused rows and died
before it could say so is known by the lake's ledgers: what was evaluated before it is outdated.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord as Record

from ml_platform.gates.evaluations import latest_evaluations, latest_materializations, told
from ml_platform.gates.outcomes import DECLARED, PUBLISHED
from ml_platform.gates.refusals import QUALITY, waiting
from ml_platform.gates.ways_out import OVERRIDDEN_RUN, UNTIL, override_ended
from ml_platform.kernel.lineage import Check, Lineage, Node
from ml_platform.kernel.partitions import Range, key_range, spans
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import Publication, publications_of
from ml_platform.lake.tables import Lake

Reason = Literal["failed", "expired", "redeclared", "not_evaluated", "outdated", "other_inputs", "missing"]


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
    refused: bool = False  # the rows that failed were not published
    redeclared: bool = False  # it failed by what was declared then, and something else is declared now
    delivered: bool = False  # it is made from deliveries, not from other assets
    published: bool = True  # some version of it is there to go back to

    @classmethod
    def by_evaluation(
        cls,
        evaluation: dg.AssetCheckEvaluation,
        *,
        run_id: str,
        published: bool,
        reason: Reason = "failed",
        delivered: bool = False,
        redeclared: bool = False,
    ) -> "ClosedGate":
        """A gate that an evaluation closes, in its words; that of an ended override has those of what it overrode."""
        before = "overridden_" if reason == "expired" else ""
        return cls(
            evaluation.asset_key.to_user_string(),
            evaluation.check_name,
            (evaluation.partition,) if evaluation.partition is not None else (),
            reason,
            str(told(evaluation, f"{before}observed", "failed")),
            str(told(evaluation, f"{before}bound", "pass")),
            str(told(evaluation, OVERRIDDEN_RUN) or run_id),
            refused=not told(evaluation, PUBLISHED, True),
            redeclared=redeclared,
            delivered=delivered,
            published=published,
        )

    @property
    def explanation(self) -> str:
        """What is wrong, where no evaluation says it; empty where one does."""
        return _EXPLANATIONS.get(self.reason, "")

    def in_words(self) -> str:
        """One line for people."""
        where = f"{self.asset}{f' [{spans(self.partitions)}]' if self.partitions else ''} {self.check}"
        if self.reason not in ("failed", "expired"):
            return f"{where}: {self.explanation}"
        run = f", run {self.run_id[:8]}" if self.run_id else ""
        over = "; its override has expired" if self.reason == "expired" else ""
        other = "; something else is declared now" if self.redeclared else ""
        return f"{where}: {self.observed} (required: {self.bound}{run}){over}{other}"


_CAUSES_FIRST = (
    "failed",
    "expired",
    "redeclared",
    "outdated",
    "not_evaluated",
    "other_inputs",
    "missing",
)  # what is missing is often a consequence

_EXPLANATIONS = {
    "redeclared": "was evaluated by other expectations than those declared now",
    "not_evaluated": "was materialized and never evaluated",
    "outdated": "was materialized again after its last evaluation",
    "other_inputs": "was made from rows that are no longer the published ones",
    "missing": "has no published version",
}


def closed_gates(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    key: str,
    partition: str,
    *,
    itself: bool = False,
    lake: Lake | None = None,
) -> list[ClosedGate]:
    """Every upstream partition that keeps `key` at `partition` from being made, causes first; empty when open.

    With `itself`, the partition's own checks count too: may what was made be used? With a lake, what was
    judged must also have been made from the rows that are published now, and overrides are looked up in it.
    """
    closed: list[ClosedGate] = []
    inputs = Inputs.now(lake, lineage) if lake is not None else None
    asked = lineage.upstream_partitions(key, partition)
    if itself:
        asked[key] = (partition, partition)
    known = Known.of(lake, inputs.publications, asked) if lake is not None and inputs is not None else None
    for upstream, keys in sorted(asked.items()):
        for check in lineage.node(upstream).blocking_checks:
            found = closed_by(instance, upstream, check, key_range(*keys), known=known)
            closed += [replace(gate, delivered=not lineage.node(upstream).upstream) for gate in found]
        if inputs is not None and lineage.node(upstream).upstream:
            closed += _made_from_others(inputs, upstream, keys)
    return sorted(closed, key=lambda gate: _CAUSES_FIRST.index(gate.reason))


def closing_itself(
    instance: dg.DagsterInstance, node: Node, partition: str, *, lake: Lake | None = None
) -> list[ClosedGate]:
    """Why the checks of a partition that is made close the gates of what reads it; none where they passed."""
    known = Known.now(lake, node.key) if lake is not None else None
    wanted: list[str | None] = [partition if node.partitioned else None]
    return [
        replace(gate, delivered=not node.upstream)
        for check in node.blocking_checks
        for gate in closed_by(instance, node.key, check, wanted, known=known)
        if gate.reason not in ("missing", "not_evaluated")
    ]


def own_failures_text(own: Sequence[ClosedGate]) -> str:
    """What an asset's own checks say to those who read it, with the ways out."""
    lines = ["Its own checks close the gates of what reads it:", *(f"  - {gate.in_words()}" for gate in own)]
    return "\n".join(lines + _ways_out_of(own))


@dataclass(frozen=True)
class Known:
    """What the lake's ledgers know beside the event log, of some assets: what is published, and what was refused."""

    lake: Lake
    publications: Mapping[str, Mapping[str, Publication]]
    refused: Mapping[tuple[str, str], Mapping[str, Any]]

    @classmethod
    def of(
        cls, lake: Lake, publications: Mapping[str, Mapping[str, Publication]], assets: Collection[str]
    ) -> "Known":
        return cls(lake, publications, waiting(lake, assets))

    @classmethod
    def now(cls, lake: Lake, asset: str) -> "Known":
        """Of one asset."""
        return cls.of(lake, publications_of(lake, {asset}), [asset])

    def published_since(self, asset: str, partition: str | None, target: Target) -> bool:
        """Whether another run than the one that an evaluation judged has published this partition."""
        publication = self.publications.get(asset, {}).get(partition or "")
        return publication is not None and publication.run_id != target.run_id

    def refused_since(self, asset: str, partition: str | None, evaluated: float) -> Mapping[str, Any] | None:
        """The refusal of a partition that nobody dismissed and no evaluation has followed."""
        entry = self.refused.get((asset, partition or ""))
        return entry if entry is not None and entry["recorded_at"].timestamp() > evaluated else None


def closed_by(
    instance: dg.DagsterInstance,
    asset: str,
    check: Check,
    partitions: Sequence[str | None],
    *,
    known: Known | None = None,
) -> list[ClosedGate]:
    """Why partitions of an asset close gates by one of its checks; those that closed alike together.

    The only partition of an asset that has none is None. Without what the lake knows, the event log alone decides.
    """
    materialized = latest_materializations(instance, asset, partitions)
    evaluated = latest_evaluations(instance, asset, check.name, partitions)
    closed: list[ClosedGate] = []
    alike: dict[Reason, list[str]] = {}
    for partition in partitions:
        record, newest = evaluated.get(partition), materialized.get(partition)
        published = newest is not None
        if (refusal := _refusal(asset, check, partition, record, known)) is not None:
            closed.append(refusal)
            continue
        evaluation = record.evaluation if record is not None else None
        reason = _reason(evaluation, newest, check, known)
        if record is not None and evaluation is not None and reason in ("failed", "expired"):
            gate = ClosedGate.by_evaluation(
                evaluation,
                run_id=record.run_id,
                published=published,
                reason=reason,
                redeclared=told(evaluation, DECLARED) != check.digest,
            )
            closed.append(gate)
        elif reason is not None:
            alike.setdefault(reason, []).extend([partition] if partition is not None else [])
    return closed + [ClosedGate(asset, check.name, tuple(found), why) for why, found in alike.items()]


def require_open(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    key: str,
    partition: str,
    *,
    itself: bool = False,
    lake: Lake | None = None,
) -> None:
    """Raise a Failure that says what closes the gate and how to get out; return when it is open."""
    closed = closed_gates(instance, lineage, key, partition, itself=itself, lake=lake)
    if closed:
        raise dg.Failure(
            refusal_text(key, partition, closed),
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
        f"Nothing was changed. To see it again: ml-platform gate status {key} --partition {partition}; "
        f"with its evidence: ml-platform gate explain {key} --partition {partition}"
    )
    return "\n".join(lines + _ways_out_of(closed))


def _ways_out_of(closed: Sequence[ClosedGate]) -> list[str]:
    """The ways out of some gates, a line each and each once."""
    return [f"Way out: {way}" for way in dict.fromkeys(way for gate in closed for way in ways_out(gate))]


def ways_out(gate: ClosedGate) -> list[str]:
    """What people can do about a closed gate, the usual way first, as commands."""
    if not gate.partitions:
        return [f"materialize {gate.asset} again, once what it is made from is another"]
    first, all_of_it = gate.partitions[0], spans(gate.partitions)
    by_check = f"{gate.asset} {first} --check {gate.check}"
    recheck = (
        f"evaluate what is published: ml-platform gate recheck {gate.asset} {_listed(gate)} --reason '…'"
    )
    if gate.redeclared and gate.published and not gate.refused:
        return [recheck, *ways_out(replace(gate, redeclared=False))]
    override = f"for a while, without mending it: ml-platform gate override {by_check} --until … --reason '…'"
    if gate.reason in ("failed", "expired") and gate.check in ("drift", "label_drift"):
        real = f"if the change is real: ml-platform drift accept {gate.asset} {first} --reason '…'"
        return [real, override]
    if gate.reason in ("failed", "expired"):
        again = f"mend what {gate.asset} {first} is made from, and materialize it again"
        if gate.delivered:
            again = f"deliver {gate.asset} {first} again: ml-platform ingest … --replaces DIGEST, then materialize it"
        dismiss = f"ml-platform refused dismiss {gate.asset} {first} --reason '…'"
        back = [f"go back to the version before: {dismiss}"] if gate.refused else []
        return [again, *back, override] if gate.published else [again]
    if gate.reason == "redeclared":
        return [recheck]
    if gate.reason == "other_inputs":
        first_look = (
            f"first ml-platform stale {gate.asset}, which says why, and clears what would come out the same"
        )
        return [f"materialize {gate.asset} {all_of_it}; {first_look}"]
    return [f"materialize {gate.asset} {all_of_it}"]


def _listed(gate: ClosedGate) -> str:
    """Partitions as arguments of a command: one, or the range that has them all."""
    first, last = gate.partitions[0], gate.partitions[-1]
    return first if first == last else f"--from {first} --to {last}"


def _refusal(
    asset: str, check: Check, partition: str | None, record: Record | None, known: Known | None
) -> ClosedGate | None:
    """The gate that refused rows close although no evaluation says so: whoever refused them died before it could."""
    if known is None or check.name != QUALITY:
        return None
    evaluated = record.event.timestamp if record is not None and record.event is not None else 0.0
    entry = known.refused_since(asset, partition, evaluated)
    if entry is None:
        return None
    published = partition in known.publications.get(asset, {})
    days = (partition,) if partition is not None else ()
    return ClosedGate(
        asset,
        check.name,
        days,
        "failed",
        entry["observed"],
        entry["bound"],
        entry["run_id"],
        refused=True,
        published=published,
    )


def _reason(
    evaluation: dg.AssetCheckEvaluation | None, materialized: int | None, check: Check, known: Known | None
) -> Reason | None:
    """Why a partition with this latest evaluation and materialization closes gates; None when it does not."""
    if evaluation is None:
        return "missing" if materialized is None else "not_evaluated"
    if not evaluation.passed:
        return "failed"
    target = evaluation.target_materialization_data
    if target is None or target.storage_id != materialized:
        return "outdated"
    asset = evaluation.asset_key.to_user_string()
    if known is not None and known.published_since(asset, evaluation.partition, target):
        return "outdated"
    lake = known.lake if known is not None else None
    if told(evaluation, UNTIL) and override_ended(evaluation, lake, now=dt.datetime.now(dt.UTC)):
        return "expired"
    return "redeclared" if told(evaluation, DECLARED) != check.digest else None


def _made_from_others(inputs: Inputs, asset: str, keys: Range) -> list[ClosedGate]:
    """Days of an asset whose inputs were published again, with other content as of their time, since they were read."""
    mine = inputs.publications.get(asset, {})
    outdated = tuple(
        key for key in key_range(*keys) if key in mine and mine[key].inputs != inputs.digest(asset, key)
    )
    return [ClosedGate(asset, "inputs", outdated, "other_inputs")] if outdated else []
