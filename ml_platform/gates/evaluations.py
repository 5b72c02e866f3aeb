"""What the event log knows: the latest completed evaluation and the newest materialization of each partition."""

from collections.abc import Collection, Iterator
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord as Record,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)

_PAGE = 500


def latest_evaluations(
    instance: dg.DagsterInstance, asset: str, check: str, partitions: Collection[str | None]
) -> dict[str | None, Record]:
    """The newest completed evaluation of each partition that has one; planned and crashed ones do not count.

    Which partitions were evaluated at all is asked only when the newest evaluations do not have all that are wanted.
    """
    wanted, found = set(partitions), dict[str | None, Record]()
    at_once = min(_PAGE, len(wanted) + 10)
    records = history(instance, asset, check, at_once=at_once) if wanted else iter(())
    for read, record in enumerate(records, start=1):
        if record.partition in wanted:
            found.setdefault(record.partition, record)
        if read == at_once:
            wanted &= _evaluated(instance, asset, check)
        if wanted <= found.keys():
            break
    return found


def latest_states(instance: dg.DagsterInstance, asset: str, check: str) -> dict[str | None, bool]:
    """Whether the latest evaluation of each partition of an asset's check passed; planned ones are left out."""
    return {
        info.partition_key: info.latest_execution_status == Status.SUCCEEDED
        for info in instance.event_log_storage.get_asset_check_partition_info([_key(asset, check)])
        if info.latest_execution_status != Status.PLANNED
    }


def latest_materializations(
    instance: dg.DagsterInstance, asset: str, partitions: Collection[str | None]
) -> dict[str | None, int]:
    """The storage id of the newest materialization of each partition; None stands for an asset without partitions."""
    key, storage = dg.AssetKey(asset.split("/")), instance.event_log_storage
    named = {partition for partition in partitions if partition is not None}
    found: dict[str | None, int] = {}
    if named:
        event_type = DagsterEventType.ASSET_MATERIALIZATION
        found.update(storage.get_latest_storage_id_by_partition(key, event_type, partitions=named))
    if None in partitions:
        records = storage.get_asset_records([key])
        last = records[0].asset_entry.last_materialization_record if records else None
        if last is not None:
            found[None] = last.storage_id
    return found


def history(
    instance: dg.DagsterInstance, asset: str, check: str, *, at_once: int = _PAGE
) -> Iterator[Record]:
    """Every completed evaluation of an asset's check, newest first; read as far as it is asked for."""
    cursor: int | None = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(
            _key(asset, check), limit=at_once, cursor=cursor, status={Status.SUCCEEDED, Status.FAILED}
        )
        yield from (record for record in page if record.evaluation is not None)
        if len(page) < at_once:
            return
        cursor = page[-1].id


def told(evaluation: dg.AssetCheckEvaluation, name: str, default: Any = "") -> Any:
    """A value of an evaluation's metadata."""
    found = evaluation.metadata.get(name)
    return default if found is None else found.value


def _evaluated(instance: dg.DagsterInstance, asset: str, check: str) -> set[str | None]:
    """Partitions that a check was evaluated for, or planned to be."""
    found = instance.event_log_storage.get_asset_check_partition_info([_key(asset, check)])
    return {info.partition_key for info in found}


def _key(asset: str, check: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
