"""How Dagster's runs fare: how many there are of each status, and which assets' runs broke."""

import datetime as dt
from collections.abc import Callable, Collection, Iterator

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus
from prometheus_client.core import GaugeMetricFamily, Metric

from ml_platform.asset_metrics.declared import Declared
from ml_platform.gates.failures import refusal_of

LOOKED_BACK = dt.timedelta(days=7)
_AT_MOST = 100  # failed runs that are opened at a scrape, the newest
_STATUSES = tuple(status for status in DagsterRunStatus if status is not DagsterRunStatus.MANAGED)


def runs(declared: Declared, instance: Callable[[], dg.DagsterInstance]) -> Iterator[Metric]:
    """How many runs there are of each status, and when a run last failed to make each asset without refusing to."""
    count = GaugeMetricFamily(
        "ml_platform_runs", "Runs that Dagster has a record of, by their status now.", labels=["status"]
    )
    failure = GaugeMetricFamily(
        "ml_platform_asset_last_failure_timestamp_seconds",
        "When a run that was to make the asset broke last, in seconds since 1970; 0 when none did in seven days. "
        "What a gate or a check refused did not break.",
        labels=["asset"],
    )
    opened = instance()
    for status in _STATUSES:
        runs_of = opened.get_runs_count(dg.RunsFilter(statuses=[status]))
        count.add_metric([status.value.lower()], runs_of)
    last = _last_failures(opened, declared.assets)
    for asset in declared.assets:
        failure.add_metric([asset], last.get(asset, 0))
    yield from (count, failure)


def _last_failures(instance: dg.DagsterInstance, assets: Collection[str]) -> dict[str, float]:
    """By asset, when a run last broke that was to make it."""
    since = dt.datetime.now(dt.UTC) - LOOKED_BACK
    failed = dg.RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=since)
    steps = {asset.replace("/", "__"): asset for asset in assets}
    last: dict[str, float] = {}
    for record in instance.get_run_records(failed, limit=_AT_MOST):
        at = record.end_time or record.update_timestamp.timestamp()
        for asset in _broken(instance, record.dagster_run, steps):
            last[asset] = max(last.get(asset, 0), at)
    return last


def _broken(instance: dg.DagsterInstance, run: dg.DagsterRun, steps: dict[str, str]) -> set[str]:
    """Assets whose steps broke; all that the run was to make where no step could say so, because its process died."""
    failures = instance.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_FAILURE).records
    if not failures:
        return {key.to_user_string() for key in run.asset_selection or ()}
    events = [record.event_log_entry.get_dagster_event() for record in failures]
    broken = {event.step_key or "" for event in events if refusal_of(event.step_failure_data) is None}
    return {steps[step] for step in broken & steps.keys()}
