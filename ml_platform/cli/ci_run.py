"""Every asset is materialized once, in the order of the graph, and every check of it is looked at."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import dagster as dg
from dagster._core.definitions.backfill_policy import BackfillPolicyType

from ml_platform.cli.instance import Runner
from ml_platform.kernel.errors import InputError

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
class Job:
    """One asset to materialize: without partitions, for one, or for a range in one run."""

    key: dg.AssetKey
    checks: tuple[str, ...]
    upstream: frozenset[dg.AssetKey]
    partitions: tuple[str, ...] = ()

    @property
    def asset(self) -> str:
        return self.key.to_user_string()


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


def jobs(runner: Runner, first: str, last: str) -> list[Job]:
    """Every asset after what it reads, with its partitions in a slice; InputError when the slice has none of one's.

    An asset whose ranges are not made in one run is made for its newest day only, as it is large.
    """
    graph = runner.job.asset_layer.asset_graph
    found: list[Job] = []
    too_short: list[str] = []
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if not node.is_materializable:
            continue
        keys: Sequence[str] = ()
        if node.partitions_def is not None:
            keys = [k for k in node.partitions_def.get_partition_keys() if first <= k[: len(first)] <= last]
            if not keys:
                too_short.append(
                    f"{key.to_user_string()} from {node.partitions_def.get_first_partition_key()} on"
                )
            elif (
                node.backfill_policy is None
                or node.backfill_policy.policy_type != BackfillPolicyType.SINGLE_RUN
            ):
                keys = keys[-1:]
        checks = tuple(sorted(check.name for check in graph.get_check_keys_for_assets({key})))
        found.append(Job(key, checks, frozenset(node.parent_keys), tuple(keys)))
    if too_short:
        raise InputError(
            f"ci.yaml: a slice with a day of every asset is required; {first} … {last} has none of "
            f"{', '.join(too_short)}. Nothing was run; move `first` or `last`"
        )
    return found


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
