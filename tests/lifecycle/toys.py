"""A small graph of assets whose outcomes a test decides, compiled and run as the real ones are.

raw (quality; a failed day is not published)
 ├── features (no checks; reads raw d-1 … d)
 └── profiles (drift; a failed day is published, and stays failed)
model (gated; reads features d and profiles d-2 … d)
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from ml_platform.cli.instance import Runner, RunReport
from ml_platform.compiler import AssetPlan, Step, compile_asset
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.spec import NamedSpec

FIRST, LAST = dt.date(2018, 6, 1), dt.date(2018, 6, 12)
RETRAIN = "0 6 * * *"
BOUND = "at most 1 of 100"


class ToySpec(NamedSpec):
    """A declared toy: nothing but its place in the graph."""

    node: Node

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        return (self.node,)


@dataclass
class Toys:
    """The compiled graph under a group name of its own; its collections say what the next runs will find."""

    instance: dg.DagsterInstance
    group: str
    failing: dict[tuple[str, str], str] = field(default_factory=dict)
    contents: dict[tuple[str, str], str] = field(default_factory=dict)
    crash_before_materialization: set[tuple[str, str]] = field(default_factory=set)
    crash_after_materialization: set[tuple[str, str]] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    made: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.raw, self.features, self.profiles, self.model = (
            f"{self.group}/{name}" for name in ("raw", "features", "profiles", "model")
        )
        nodes = (
            _node(self.raw, "quality"),
            _node(self.features, upstream=(Upstream(self.raw, first=-1),)),
            _node(self.profiles, "drift", upstream=(Upstream(self.raw),)),
            _node(self.model, upstream=(Upstream(self.features), Upstream(self.profiles, first=-2))),
        )
        specs = [ToySpec(name=node.key.split("/")[1], node=node) for node in nodes]
        self.catalog = Catalog({(ToySpec, spec.name): spec for spec in specs})
        self.assets = [compile_asset(self._plan(spec), self.catalog) for spec in specs]
        self.defs = dg.Definitions(assets=self.assets)
        self.job = self.defs.resolve_implicit_global_asset_job_def()

    def run(self, *assets: str, first: str, last: str | None = None) -> RunReport:
        """Materialize assets for one partition or, in one run, for a range of them."""
        return Runner(self.instance, self.job).run(assets, first, last)

    def make(self, *assets: str, first: str, last: str | None = None) -> RunReport:
        """Materialize assets where nothing may go wrong."""
        report = self.run(*assets, first=first, last=last)
        assert report.success, report.error
        return report

    def planned(self, asset: str, *, partition: str) -> dg.DagsterRun:
        """A run that is created and waits, as in a queue."""
        wanted = frozenset({dg.AssetKey(asset.split("/"))})
        job = self._in_this_process.get_subset(asset_selection=wanted)
        tags = {"dagster/partition": partition}
        return self.instance.create_run_for_job(job, tags=tags, asset_selection=wanted)

    def execute(self, run: dg.DagsterRun) -> Any:
        """Carry out a run that has waited."""
        job = self._in_this_process.get_subset(asset_selection=run.asset_selection)
        return execute_run(InMemoryJob(job), run, self.instance)

    @cached_property
    def _in_this_process(self) -> dg.JobDefinition:
        defs = dg.Definitions(assets=self.assets, executor=dg.in_process_executor)
        return defs.resolve_implicit_global_asset_job_def()

    def fail(self, asset: str, *partitions: str, observed: str = "7 of 100 rows break it") -> None:
        """From now on these partitions fail their check."""
        self.failing |= {(asset, partition): observed for partition in partitions}

    def was_made(self, asset: str, partition: str) -> bool:
        """Did any step get as far as its work on this partition?"""
        return (asset, partition) in self.made

    def _plan(self, spec: ToySpec) -> AssetPlan:
        gated = spec.node.key == self.model
        return AssetPlan(
            node=spec.node,
            work=lambda step: self._work(spec.node, step),
            spec=spec,
            kinds=frozenset(),
            resources=frozenset(),
            gated=gated,
            cron=RETRAIN if gated else None,
            one_run_per_range=not gated,
        )

    def _work(self, node: Node, step: Step) -> Sequence[Outcome]:
        self.made += [(node.key, partition) for partition in step.partitions]
        for partition in step.partitions:
            if (node.key, partition) in self.crash_before_materialization:
                raise RuntimeError(f"{node.key} crashed before {partition} was done")
        return [self._outcome(node, partition) for partition in step.partitions]

    def _outcome(self, node: Node, partition: str) -> Outcome:
        case = (node.key, partition)
        observed = self.failing.get(case)
        # An event with such metadata cannot be made: the step dies between materialization and evaluation.
        metadata = {"unloggable": object()} if case in self.crash_after_materialization else {}
        evaluations = tuple(
            Evaluation(
                check.name, passed=observed is None, observed=observed or "", bound=BOUND, metadata=metadata
            )
            for check in node.blocking_checks
            if node.key not in self.silent
        )
        published = observed is None or node.key != self.raw
        content = self.contents.get(case, f"content of {partition}") if published else None
        return Outcome(partition, published, evaluations, metadata={"rows": 100}, data_version=content)


def evaluations_of(
    instance: dg.DagsterInstance, asset: str, check: str
) -> list[tuple[dg.AssetCheckEvaluation, str]]:
    """Every completed evaluation of a check, oldest first, each with the id of its run."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check), limit=1000
    )
    completed = [record for record in reversed(records) if record.status.value != "PLANNED"]
    return [(record.evaluation, record.run_id) for record in completed if record.evaluation is not None]


def materializations_of(
    instance: dg.DagsterInstance, asset: str
) -> dict[str | None, list[dg.EventLogRecord]]:
    """Every materialization of an asset by partition, oldest first."""
    found: dict[str | None, list[dg.EventLogRecord]] = {}
    records = instance.fetch_materializations(
        dg.AssetKey(asset.split("/")), limit=1000, ascending=True
    ).records
    for record in records:
        found.setdefault(record.partition_key, []).append(record)
    return found


def _node(key: str, *checks: str, upstream: tuple[Upstream, ...] = ()) -> Node:
    return Node(
        key,
        first_day=FIRST,
        last_day=LAST,
        upstream=upstream,
        blocking_checks=tuple(Check(check) for check in checks),
    )
