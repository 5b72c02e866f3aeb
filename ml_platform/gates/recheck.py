"""Published partitions judged again by what is declared now, without being made again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from ml_platform.gates.evaluations import latest_evaluations, told
from ml_platform.gates.outcomes import PUBLISHED, Evaluation, Outcome
from ml_platform.gates.recording import materialization_targets, report_outcomes
from ml_platform.gates.ways_out import WAYS_OUT, line, require_reason
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.partitions import spans
from ml_platform.lake.tables import Lake

Judge = Callable[[Sequence[str]], Sequence[Outcome]]
"""Judges what is published of some partitions: one outcome each, in their order."""


@dataclass(frozen=True)
class Recheck:
    """Who judges which partitions of an asset again, and why."""

    node: Node
    partitions: tuple[str, ...]
    reason: str
    actor: str


def recheck(instance: dg.DagsterInstance, lake: Lake, asked: Recheck, judge: Judge) -> list[Outcome]:
    """Judge published partitions again and tell Dagster and the ledger; what was found.

    Raises InputError, with nothing told, for partitions without a published version, for those whose refused rows
    wait for a decision (they would be hidden behind the version that is published), or without a reason.
    """
    key = dg.AssetKey(asked.node.key.split("/"))
    targets = materialization_targets(instance, key, asked.partitions)
    _require_published(asked, [partition for partition in asked.partitions if partition not in targets])
    _require_decided(instance, asked)
    require_reason(asked.reason, "these are judged again", nothing="evaluated")
    outcomes = [outcome.judged_by(asked.node.blocking_checks) for outcome in judge(asked.partitions)]
    lines = [_line(asked, outcome, evaluation) for outcome in outcomes for evaluation in outcome.evaluations]
    WAYS_OUT.append(lake, lines)
    report_outcomes(instance, key, outcomes, targets)
    return outcomes


def _line(asked: Recheck, outcome: Outcome, evaluation: Evaluation) -> dict[str, object]:
    return line(
        "recheck",
        asked.node.key,
        outcome.partition or "",
        check=evaluation.check,
        reason=asked.reason,
        actor=asked.actor,
        evidence=f"{'passed' if evaluation.passed else 'failed'}: {evaluation.observed or 'as required'}",
        judged=str(evaluation.metadata.get("judged", outcome.data_version or "")),
    )


def _require_published(asked: Recheck, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(
            f"{asked.node.key}: published partitions are required; {spans(missing)} have no materialization. "
            f"Nothing was evaluated; materialize them"
        )


def _require_decided(instance: dg.DagsterInstance, asked: Recheck) -> None:
    waiting: set[str] = set()
    for check in asked.node.blocking_checks:
        found = latest_evaluations(instance, asked.node.key, check.name, asked.partitions)
        for partition, record in found.items():
            evaluation = record.evaluation
            if partition and evaluation is not None and not told(evaluation, PUBLISHED, True):
                waiting.add(partition)
    if waiting:
        listed = sorted(waiting)
        raise InputError(
            f"{asked.node.key}: partitions without refused rows are required; {spans(listed)} have some, which wait "
            f"for a decision. Nothing was evaluated; materialize them to try the rows again, or drop the rows: "
            f"ml-platform refused dismiss {asked.node.key} {listed[0]} --reason '…'"
        )
