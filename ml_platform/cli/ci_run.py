"""Every asset is materialized once, in the order of the graph, and every check of it is looked at."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import dagster as dg

from ml_platform.cli.ci_slice import Job
from ml_platform.cli.instance import Runner

Status = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """What one check said of one partition, or of an asset without partitions. A warning does not fail."""

    check: str
    partition: str | None
    passed: bool
    observed: str = ""
    bound: str = ""
    warning: bool = False

    @property
    def failed(self) -> bool:
        return not (self.passed or self.warning)

    def in_words(self) -> str:
        """What was seen, and what was required."""
        return (
            f"{self.observed or 'failed'} (required: {self.bound})"
            if self.bound
            else self.observed or "failed"
        )


@dataclass(frozen=True)
class Made:
    """How the run of one asset ended. `text` has the refusal, the error or why it was skipped.

    `complete` says that all its partitions are there, whatever checks that do not block have found.
    """

    asset: str
    status: Status
    checks: tuple[str, ...]
    partitions: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()
    seconds: float = 0.0
    text: str = ""
    complete: bool = False

    @property
    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.failed]


def run(runner: Runner, wanted: Sequence[Job]) -> Iterator[Made]:
    """Materialize assets one after the other; what reads one that could not be made is skipped, and the rest is not."""
    incomplete: dict[dg.AssetKey, str] = {}
    for job in wanted:
        unmade = sorted(incomplete[key] for key in job.upstream if key in incomplete)
        made = _skipped(job, unmade) if unmade else _materialize(runner, job)
        if not made.complete:
            incomplete[job.key] = job.asset
        yield made


def _skipped(job: Job, unmade: Sequence[str]) -> Made:
    text = f"reads {', '.join(unmade)}, which could not be made whole"
    return Made(job.asset, "skipped", job.checks, job.partitions, text=text)


def _materialize(runner: Runner, job: Job) -> Made:
    started = time.perf_counter()
    first, last = (job.partitions[0], job.partitions[-1]) if job.partitions else (None, None)
    report = runner.run([job.asset], first, last)
    verdicts = verdicts_of(runner.instance, report.run_id)
    status: Status = "passed" if report.success else "error"
    if any(verdict.failed for verdict in verdicts):
        status = "failed"
    return Made(
        job.asset,
        status,
        job.checks,
        job.partitions,
        tuple(verdicts),
        seconds=time.perf_counter() - started,
        text=report.error,
        complete=report.success,
    )


def verdicts_of(instance: dg.DagsterInstance, run_id: str) -> list[Verdict]:
    """Every completed evaluation of a run, by check and partition.

    A run of a range also evaluates each check once for no partition, which says nothing of its own.
    """
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [
        entry.dagster_event.asset_check_evaluation_data for entry in events if entry.dagster_event is not None
    ]
    by_partition = {evaluation.check_name for evaluation in found if evaluation.partition is not None}
    newest = {
        (evaluation.check_name, evaluation.partition or ""): _verdict(evaluation)
        for evaluation in found
        if evaluation.partition is not None or evaluation.check_name not in by_partition
    }
    return [verdict for _, verdict in sorted(newest.items())]


def _verdict(evaluation: dg.AssetCheckEvaluation) -> Verdict:
    def told(name: str) -> str:
        value = evaluation.metadata.get(name)
        return str(value.value) if value is not None else ""

    return Verdict(
        evaluation.check_name,
        evaluation.partition,
        evaluation.passed,
        told("observed") or evaluation.description or "",
        told("bound"),
        warning=evaluation.severity == dg.AssetCheckSeverity.WARN,
    )
