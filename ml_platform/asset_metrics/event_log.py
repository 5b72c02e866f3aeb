"""What Dagster's event log says of assets and their checks, and what is refused."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import dagster as dg
from prometheus_client.core import GaugeMetricFamily, Metric

from ml_platform.asset_metrics.declared import Declared
from ml_platform.gates.evaluations import all_latest_states, last_made
from ml_platform.gates.refusals import QUALITY
from ml_platform.gates.refused import refused_partitions
from ml_platform.kernel.partitions import Range, complete_at
from ml_platform.lake.tables import Lake

State = Literal["passed", "failed", "never"]
States = Mapping[str | None, bool]
"""Whether the latest evaluation of each partition passed."""
STATES: tuple[State, ...] = ("passed", "failed", "never")


def made(declared: Declared, instance: Callable[[], dg.DagsterInstance]) -> Iterator[Metric]:
    """When each asset was materialized last, and up to which day it has partitions."""
    at = GaugeMetricFamily(
        "ml_platform_asset_last_materialization_timestamp_seconds",
        "When the asset was materialized last, in seconds since 1970; 0 when it never was.",
        labels=["asset"],
    )
    newest = GaugeMetricFamily(
        "ml_platform_asset_newest_partition_timestamp_seconds",
        "The midnight that ends the newest day of which the asset has a partition, in seconds since 1970; "
        "0 when it has none.",
        labels=["asset"],
    )
    known = last_made(instance())
    for asset in declared.assets:
        found = known.get(asset)
        at.add_metric([asset], found.at.timestamp() if found is not None else 0)
        if declared.partitioned(asset):
            partition = found.partition if found is not None else None
            newest.add_metric([asset], complete_at(partition).timestamp() if partition is not None else 0)
    yield from (at, newest)


def checks(declared: Declared, instance: Callable[[], dg.DagsterInstance]) -> Iterator[Metric]:
    """How the latest evaluation of each check ended."""
    state = GaugeMetricFamily(
        "ml_platform_asset_check_state",
        "1 for the state of the check's latest evaluation, of the newest partition that has one; 0 for the others.",
        labels=["asset", "check", "blocking", "state"],
    )
    failed = GaugeMetricFamily(
        "ml_platform_asset_check_failed_partitions",
        "Partitions of the asset whose latest evaluation by the check failed.",
        labels=["asset", "check"],
    )
    closing = GaugeMetricFamily(
        "ml_platform_asset_check_closing_partitions",
        "Partitions whose latest evaluation by the blocking check failed, and which something that is made of the "
        "newest day reads.",
        labels=["asset", "check"],
    )
    evaluated = _by_day(declared, all_latest_states(instance()))
    newest = max((day for states in evaluated.values() for day in states if day is not None), default=None)
    read = declared.partitions_read(newest) if newest is not None else {}
    for (asset, check), blocking in declared.checks.items():
        states = evaluated.get((asset, check), {})
        found = _newest(states)
        for name in STATES:
            state.add_metric([asset, check, str(blocking).lower(), name], float(name == found))
        failing = [partition for partition, passed in states.items() if not passed]
        failed.add_metric([asset, check], len(failing))
        if blocking:
            closing.add_metric(
                [asset, check], sum(_is_read(partition, read.get(asset)) for partition in failing)
            )
    yield from (state, failed, closing)


def refused(declared: Declared, instance: Callable[[], dg.DagsterInstance], lake: Lake) -> Iterator[Metric]:
    """How many refused partitions wait for a person or a good delivery."""
    count = GaugeMetricFamily(
        "ml_platform_asset_refused_partitions",
        "Partitions that failed their checks, were not published, and wait: nobody dismissed them, and no good "
        "version came since.",
        labels=["asset"],
    )
    waiting = [entry.asset for entry in refused_partitions(instance(), lake) if not entry.superseded]
    for asset, check in declared.checks:
        if check == QUALITY:
            count.add_metric([asset], waiting.count(asset))
    yield count


def _by_day(declared: Declared, evaluated: Mapping[tuple[str, str], States]) -> dict[tuple[str, str], States]:
    """Of declared checks what is of a day, where assets have days: of a run over several Dagster keeps one more."""
    return {
        key: {day: passed for day, passed in states.items() if day or not declared.partitioned(key[0])}
        for key, states in evaluated.items()
        if key in declared.checks
    }


def _is_read(partition: str | None, keys: Range | None) -> bool:
    """Whether a partition is in a range; what has no partitions is always read."""
    return partition is None or (keys is not None and keys[0] <= partition <= keys[1])


def _newest(states: States) -> State:
    """The state of the last partition, by its name; of an asset without partitions, of the asset."""
    if not states:
        return "never"
    return "passed" if states[max(states, key=str)] else "failed"
