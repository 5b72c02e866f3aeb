"""Writes the report of every profiled day into the lake, and finds it there again.

Apart from `component.py`, because the command line reads reports too, and from `report.py`, which knows no store.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.drift_profiles import store
from ml_platform.drift_profiles.distances import Sample, read_categories, read_numbers
from ml_platform.drift_profiles.histograms import Histogram, Statistics, histogram, statistics
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.report import (
    TIMELINE_DAYS,
    Page,
    Seen,
    TimelineDay,
    preview,
    render,
    with_verdict,
)
from ml_platform.drift_profiles.sequence import Columns
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import ONE_DAY, day, day_range, key_of, spans
from ml_platform.lake import documents
from ml_platform.lake.tables import Lake

Look = Mapping[str, tuple[Histogram, Statistics | None]]
"""What each feature of a day and of its reference looked like, and the statistics of the latter, if there is one."""


@dataclass(frozen=True)
class Report:
    """Where a day's report is, and what the asset's page shows of it."""

    uri: str
    preview: str


@dataclass(frozen=True)
class CurrentReport:
    """Where a day's report is, and its page."""

    uri: str
    html: str


def look(columns: Columns, reference: Mapping[str, Sample], policy: DriftPolicy) -> Look:
    """Count a day and its reference into common bins, while both are in memory."""
    found: dict[str, tuple[Histogram, Statistics | None]] = {}
    for name, values in columns.items():
        if name not in policy.id_columns:
            pooled = reference.get(name)
            counted = histogram(_sample(name, values, policy), pooled)
            found[name] = (counted, statistics(pooled) if pooled is not None else None)
    return found


def write_reports(
    lake: Lake,
    key: str,
    *,
    policy: DriftPolicy,
    judged: Mapping[str, store.JudgedDay],
    looks: Mapping[str, Look],
    summaries: Mapping[str, pa.Table],
) -> dict[str, Report]:
    """Write the report of each of the days, whose verdicts are kept already: the timeline is read from the lake.

    `summaries` has whylogs' statistics of each day.
    """
    timeline = judged_days(lake, key, first=days_up_to(min(judged))[0], last=max(judged))
    written: dict[str, Report] = {}
    for partition, found in judged.items():
        page = Page(
            profile=_name(key),
            partition=partition,
            verdict=timeline[partition].verdict,
            decision=found.verdict.decision,
            reference_days=found.verdict.reference,
            policy=policy,
            seen=seen(looks[partition], summaries[partition]),
            timeline={date: timeline.get(date) for date in days_up_to(partition)},
        )
        uri = documents.write(lake, path_of(key, partition), render(page).encode())
        command = f"ml-platform drift report {page.profile} {partition}"
        written[partition] = Report(uri, preview(page, command))
    return written


def current_report(lake: Lake, key: str, partition: str) -> CurrentReport:
    """A day's report with the verdict as it is now; InputError for a day that has none."""
    found = refreshed(lake, key, partition)
    if found is None:
        folder = path_of(key, partition).rpartition("/")[0]
        there = [name.removesuffix(".html") for name in documents.names(lake, folder)]
        raise InputError(
            f"a day of {key} that has a report is required ({spans(there) or 'none has'}); got {partition!r}. "
            f"To have one: materialize {key} {partition}"
        )
    return found


def refreshed(lake: Lake, key: str, partition: str) -> CurrentReport | None:
    """A day's report, told who let the day through since it was written; None for a day that has none."""
    try:
        path = path_of(key, key_of(day(partition)))
    except ValueError:
        return None
    content = documents.read(lake, path)
    if content is None:
        return None
    html = content.decode()
    judged = judged_days(lake, key, first=partition, last=partition).get(partition)
    now = with_verdict(html, judged.verdict) if judged is not None else html
    uri = documents.write(lake, path, now.encode()) if now != html else documents.uri(lake, path)
    return CurrentReport(uri, now)


def path_of(key: str, partition: str) -> str:
    """Path of a day's report below the lake's root."""
    return f"reports/{key}/{partition}.html"


def judged_days(lake: Lake, key: str, *, first: str, last: str) -> dict[str, TimelineDay]:
    """How the days of a range were judged, by partition in order, and which were let through, by whom and why."""
    found = store.timeline(lake, key, first=first, last=last)
    taken = _taken(lake, key)
    return {
        partition: replace(one, verdict=replace(one.verdict, let_through=_let_through(one, taken[partition])))
        if partition in taken
        else one
        for partition, one in sorted(found.items())
    }


def _taken(lake: Lake, key: str) -> dict[str, list[dict[str, Any]]]:
    """The ways out that were taken for each day, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in WAYS_OUT.entries(lake, asset=[key], way=["accept", "override"]):
        found.setdefault(entry["partition"], []).append(entry)
    return found


def _let_through(one: TimelineDay, taken: Sequence[Mapping[str, Any]]) -> str:
    """By whom and why a day is let through; an acceptance is of the rows that its verdict was about.

    An override that has ended lets nothing through.
    """
    now = dt.datetime.now(dt.UTC)
    for entry in reversed(taken):
        if entry["way"] == "override":
            if dt.datetime.fromisoformat(entry["until"]) <= now:
                continue
            return f"overridden until {entry['until']} by {entry['actor']}: {entry['reason']}"
        if entry["judged"] == one.content:
            return f"accepted by {entry['actor']}: {entry['reason']}"
    return ""


def seen(found: Look, summary: pa.Table) -> dict[str, Seen]:
    """What was counted, with whylogs' statistics of the day."""
    of_day = {row["feature"]: row for row in summary.to_pylist()}
    return {
        name: Seen(counted, _of_whylogs(of_day[name]), reference)
        for name, (counted, reference) in found.items()
    }


def _of_whylogs(row: Mapping[str, float]) -> Statistics:
    numbers = [row[name] for name in ("mean", "stddev", "min", "q05", "q25", "q50", "q75", "q95", "max")]
    return Statistics(int(row["count"]), int(row["missing"]), row["unique_estimate"], *numbers)


def _sample(name: str, values: np.ndarray, policy: DriftPolicy) -> Sample:
    if name in policy.categories:
        return read_categories(values)
    return read_numbers(values, feature=name)


def days_up_to(partition: str) -> list[str]:
    """The days of a partition's timeline, in order: the last is its own."""
    last = day(partition)
    return [key_of(d) for d in day_range(last - (TIMELINE_DAYS - 1) * ONE_DAY, last)]


def _name(key: str) -> str:
    return key.rpartition("/")[2]
