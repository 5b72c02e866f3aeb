"""What the gates said of everything that a partition was made from: evidence that stays with what was made."""

import datetime as dt
from dataclasses import dataclass

import dagster as dg

from ml_platform.gates.evaluations import latest_evaluations
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import Range, key_range


@dataclass(frozen=True)
class Evidence:
    """One blocking check of one upstream asset, by the latest evaluation of each partition; the newest with its run."""

    asset: str
    check: str
    partitions: Range
    passed: int
    failed: int
    evaluated_at: dt.datetime | None
    run_id: str


def evidence(instance: dg.DagsterInstance, lineage: Lineage, key: str, partition: str) -> list[Evidence]:
    """Every blocking check upstream of a partition, in the order of the assets' names."""
    return [
        _evidence(instance, asset, check.name, keys)
        for asset, keys in sorted(lineage.upstream_partitions(key, partition).items())
        for check in lineage.node(asset).blocking_checks
    ]


def _evidence(instance: dg.DagsterInstance, asset: str, check: str, keys: Range) -> Evidence:
    records = latest_evaluations(instance, asset, check, key_range(*keys))
    verdicts = [found.evaluation.passed for found in records.values() if found.evaluation is not None]
    told = [(found.event.timestamp, found.run_id) for found in records.values() if found.event is not None]
    when, run_id = max(told, default=(None, ""))
    time = dt.datetime.fromtimestamp(when, dt.UTC) if when is not None else None
    return Evidence(asset, check, keys, verdicts.count(True), verdicts.count(False), time, run_id)
