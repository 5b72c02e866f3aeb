"""What the gates said of everything that a partition was made from: evidence that stays with what was made."""

import datetime as dt
from dataclasses import dataclass

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)

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
        _evidence(instance, asset, check, days)
        for asset, days in sorted(lineage.upstream_days(key, partition).items())
        for check in lineage.node(asset).blocking_checks
    ]


def _evidence(instance: dg.DagsterInstance, asset: str, check: str, days: Days) -> Evidence:
    storage, key = instance.event_log_storage, dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    wanted = set(map(key_of, day_range(*days)))
    states = [info for info in storage.get_asset_check_partition_info([key]) if info.partition_key in wanted]
    counts = [info.latest_execution_status for info in states]
    newest = max(states, key=lambda info: info.latest_check_event_storage_id, default=None)
    records = (
        storage.get_asset_check_execution_history(
            key,
            limit=1,
            status={Status.SUCCEEDED, Status.FAILED},
            partition_filter=PartitionKeyFilter(key=newest.partition_key),
        )
        if newest is not None and newest.partition_key is not None
        else []
    )
    found = records[0] if records else None
    time = dt.datetime.fromtimestamp(found.event.timestamp, dt.UTC) if found and found.event else None
    return Evidence(
        asset,
        check,
        days,
        counts.count(Status.SUCCEEDED),
        counts.count(Status.FAILED),
        time,
        found.run_id if found else "",
    )
