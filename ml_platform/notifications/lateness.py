"""Models that should have updated and did not: which, and why not, asked once for each day that was due."""

import datetime as dt
from collections.abc import Mapping

import dagster as dg
from dagster import DagsterEventType
from dagster._utils.schedules import reverse_cron_string_iterator

from ml_platform.gates.guard import closed_gates, refusal_text
from ml_platform.kernel.lineage import Node
from ml_platform.lake.tables import Lake
from ml_platform.notifications.compute import Happening
from ml_platform.notifications.events import Scope, errors, not_updated


def late_models(
    instance: dg.DagsterInstance, lake: Lake, scope: Scope, *, now: dt.datetime, judged: Mapping[str, str]
) -> tuple[list[Happening], dict[str, str]]:
    """Models whose newest due day is not made `grace` after their cron; and the day that each was judged by.

    A model whose days were judged before is not looked at again until another day is due.
    """
    found: list[Happening] = []
    due_days = dict(judged)
    for key, cron in scope.crons.items():
        tick = last_tick(cron, now - scope.spec.grace.timedelta())
        due = due_day(scope.lineage.node(key), tick)
        if due is None or due == judged.get(key) or not scope.wants("model_not_updated", key):
            continue
        due_days[key] = due
        if not _made(instance, key, due):
            found.append(_late(instance, lake, scope, key, due, tick))
    return found, due_days


def last_tick(cron: str, before: dt.datetime) -> dt.datetime:
    """The last time at or before a given one that a cron in UTC names."""
    return next(iter(reverse_cron_string_iterator(before.timestamp(), cron, "UTC"))).astimezone(dt.UTC)


def due_day(node: Node, tick: dt.datetime) -> str | None:
    """The newest partition that is complete at a time; None before the first and after the last day of an asset."""
    newest = node.newest(tick)
    return newest if node.clip((newest, newest)) is not None else None


def _made(instance: dg.DagsterInstance, key: str, partition: str) -> bool:
    return bool(
        instance.event_log_storage.get_latest_storage_id_by_partition(
            dg.AssetKey(key.split("/")), DagsterEventType.ASSET_MATERIALIZATION, partitions={partition}
        )
    )


def _late(
    instance: dg.DagsterInstance, lake: Lake, scope: Scope, key: str, partition: str, tick: dt.datetime
) -> Happening:
    """Why a model is late: the gate that is closed now; else what became of its last run; else nobody asked."""
    closed = closed_gates(instance, scope.lineage, key, partition, lake=lake)
    run = _last_run(instance, key, partition)
    late = f"{key} [{partition}] was due at {tick:%Y-%m-%d %H:%M} UTC and is not made"
    if closed:
        text = refusal_text(key, partition, closed)
    elif run is None:
        text = (
            f"{late}: no run was started for it, and its gate is open. Does the Dagster daemon run, and is the "
            f"automation sensor on?\nTo make it: dg launch --assets {key} --partition {partition}"
        )
    elif run.is_failure:
        said = errors(instance, run.run_id)
        why = said.get(key.replace("/", "__")) or "; ".join(said.values()) or "no step of it says why"
        text = f"{late}: run {run.run_id[:8]} failed.\n{why}"
    else:
        text = f"{late}: run {run.run_id[:8]} is {run.status.value.lower()}, and its gate is open."
    run_id = run.run_id if run is not None and not closed else ""
    return not_updated(instance, key, partition, text, happened_at=tick, run_id=run_id)


def _last_run(instance: dg.DagsterInstance, key: str, partition: str) -> dg.DagsterRun | None:
    """The last run that was to make a partition."""
    planned = instance.event_log_storage.get_latest_planned_materialization_info(
        dg.AssetKey(key.split("/")), partition
    )
    return instance.get_run_by_id(planned.run_id) if planned is not None else None
