"""What the gates said of everything that a partition was made from: evidence that stays with what was made."""

import datetime as dt
from dataclasses import dataclass

import dagster as dg

from ml_platform.gates.evaluations import latest_evaluations
from ml_platform.kernel.lineage import Days, Lineage
from ml_platform.kernel.partitions import day_range, key_of


@dataclass(frozen=True)
class Evidence:
    """One blocking check of one upstream asset, by the latest evaluation of each day; the newest with its run."""

    asset: str
    check: str
    days: Days
    passed: int
    failed: int
    evaluated_at: dt.datetime | None
    run_id: str


def evidence(instance: dg.DagsterInstance, lineage: Lineage, key: str, partition: dt.date) -> list[Evidence]:
    """Every blocking check upstream of a partition, in the order of the assets' names."""
    return [
        _evidence(instance, asset, check.name, days)
        for asset, days in sorted(lineage.upstream_days(key, partition).items())
        for check in lineage.node(asset).blocking_checks
    ]


def _evidence(instance: dg.DagsterInstance, asset: str, check: str, days: Days) -> Evidence:
    records = latest_evaluations(instance, asset, check, [key_of(date) for date in day_range(*days)])
    verdicts = [found.evaluation.passed for found in records.values() if found.evaluation is not None]
    told = [(found.event.timestamp, found.run_id) for found in records.values() if found.event is not None]
    when, run_id = max(told, default=(None, ""))
    time = dt.datetime.fromtimestamp(when, dt.UTC) if when is not None else None
    return Evidence(asset, check, days, verdicts.count(True), verdicts.count(False), time, run_id)
