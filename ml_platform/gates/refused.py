"""Refused partitions: rows that failed their checks, kept for people to look at until someone dismisses them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord as Record

from ml_platform.gates.evaluations import latest_evaluations, told
from ml_platform.gates.outcomes import PUBLISHED, Outcome
from ml_platform.gates.recording import materialization_targets, report_outcomes
from ml_platform.gates.refusals import QUALITY, dismissals, newest_refusals
from ml_platform.gates.ways_out import UNTIL, WAYS_OUT, line
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.partitions import cadence_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.broken_rows import failing_rows, stage_references
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake, Table


@dataclass(frozen=True)
class Refused:
    """One refused partition: what its checks saw, and what readers have in its place.

    `superseded` says that a version that passed has come since; `published`, that some version is published.
    """

    asset: str
    partition: str
    rows: int
    observed: str
    bound: str
    run_id: str
    superseded: bool
    published: bool


def refused_rows(lake: Lake, asset: str) -> Table:
    """The table of an asset's refused partitions, kept for inspection."""
    return lake.table(f"refused/{asset}")


def refused_partitions(instance: dg.DagsterInstance, lake: Lake, asset: str | None = None) -> list[Refused]:
    """Every refused partition that nobody has dismissed, by asset and day.

    One whose dismissal was cut off before it opened the gate is still among them.
    """
    wanted = None if asset is None else [asset]
    newest, dismissed = newest_refusals(lake, wanted), dismissals(lake, wanted)
    found: list[Refused] = []
    for name in sorted({name for name, _ in newest}):
        entries = [entry for case, entry in newest.items() if case[0] == name]
        done = {
            day
            for key, day in dismissed
            if key == name and dismissed[key, day] > newest[key, day]["recorded_at"]
        }
        found += _of_asset(instance, lake, name, entries, done)
    return found


def require_refused(found: Sequence[Refused], asset: str, partition: str) -> Refused:
    """The refused partition of an asset; InputError when there is none."""
    for entry in found:
        if (entry.asset, entry.partition) == (asset, partition):
            return entry
    known = ", ".join(f"{entry.asset} {entry.partition}" for entry in found[:5])
    raise InputError(
        f"{asset} [{partition}]: a refused partition is required; refused are: {known or 'none'}. Nothing was changed"
    )


@dataclass(frozen=True)
class Dismissal:
    """Who drops which refused partition, and why."""

    node: Node
    partition: str
    reason: str
    actor: str


def dismiss(
    instance: dg.DagsterInstance,
    lake: Lake,
    asked: Dismissal,
    *,
    forget: Callable[[str], None],
    judge: Callable[[Sequence[str]], Sequence[Outcome]],
) -> Outcome | None:
    """Drop refused rows and let the published version count again; how it is judged, or None when there is none.

    `forget` drops what the rows were made from, given the inputs of the published version; `judge` audits the
    published version. Cut off at any moment, it can be done again.
    """
    asset, day = asked.node.key, asked.partition
    entry = require_refused(refused_partitions(instance, lake, asset), asset, day)
    done = line(
        "dismiss",
        asset,
        day,
        check=QUALITY,
        reason=asked.reason,
        actor=asked.actor,
        evidence=f"{entry.observed} (required: {entry.bound})",
    )
    there = published(lake, asset)
    if not entry.superseded:
        forget(there[day].inputs if day in there else "")
    WAYS_OUT.append(lake, [done])
    outcome = None
    if day in there and not entry.superseded:
        key = dg.AssetKey(asset.split("/"))
        targets = materialization_targets(instance, key, [day])
        (found,) = judge([day])
        outcome = found.judged_by(asked.node.blocking_checks)
        report_outcomes(instance, key, [outcome], targets)
    _drop_rows(lake, asset, day)
    return outcome


def broken_rows(
    settings: Settings, lake: Lake, entry: Refused, expectations: Sequence[Expectation], *, limit: int
) -> dict[str, list[dict[str, Any]]]:
    """Refused rows that break each expectation as it is declared now, the first of each, by what is required."""
    table = refused_rows(lake, entry.asset)
    if table.version() is None:
        return {}
    cadence = cadence_of(entry.partition)
    rows = table.scan(where=[(cadence.column, "=", entry.partition)])
    broken: dict[str, list[dict[str, Any]]] = {}
    with connect(settings) as connection:
        connection.execute(f"CREATE TEMP VIEW refused_rows AS {rows}")
        stage_references(connection, lake, "refused_rows", expectations, cadence)
        for expectation in expectations:
            failing = failing_rows(connection, "refused_rows", expectation, cadence)
            if failing is not None:
                found = failing.limit(limit).to_arrow_table().to_pylist()
                broken |= {expectation.sentence(): found} if found else {}
    return broken


def _drop_rows(lake: Lake, asset: str, partition: str) -> None:
    table = refused_rows(lake, asset)
    if table.version() is not None:
        table.replace_partitions(table.at().schema.empty_table(), keys=[partition])


def _of_asset(
    instance: dg.DagsterInstance,
    lake: Lake,
    asset: str,
    entries: Sequence[dict[str, Any]],
    dismissed: Collection[str],
) -> list[Refused]:
    latest = latest_evaluations(instance, asset, QUALITY, [entry["partition"] for entry in entries])
    there = published(lake, asset)
    closing = {
        day
        for day, record in latest.items()
        if (seen := record.evaluation) is not None and not seen.passed and not told(seen, PUBLISHED, True)
    }
    found: list[Refused] = []
    for entry in sorted(entries, key=lambda entry: entry["partition"]):
        day: str = entry["partition"]
        if day in dismissed and not (day in there and day in closing):
            continue
        told_then = (entry["rows"], entry["observed"], entry["bound"], entry["run_id"])
        superseded = day in latest and _passed_since(latest[day], entry)
        found.append(Refused(asset, day, *told_then, superseded=superseded, published=day in there))
    return found


def _passed_since(record: Record, entry: dict[str, Any]) -> bool:
    """Whether a version has passed since rows were refused; an override of the refusal is no such version."""
    evaluation, event = record.evaluation, record.event
    if evaluation is None or event is None or not evaluation.passed or told(evaluation, UNTIL):
        return False
    return event.timestamp >= entry["recorded_at"].timestamp()
