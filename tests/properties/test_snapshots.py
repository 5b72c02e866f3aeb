"""Snapshot features against a brute force that is written from the definitions, not from the SQL."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.features.compute import SnapshotQuery, snapshot_sql
from ml_platform.features.spec import Feature
from ml_platform.kernel.durations import Duration

START = dt.datetime(2018, 4, 1, tzinfo=dt.UTC)
DAYS = 12
HOUR = dt.timedelta(hours=1)
TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Version:
    """One version of an event or label: id, key (events), event time, created time, value."""

    id: int
    key: int | None
    at: dt.datetime
    created: dt.datetime
    value: float | None


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Version], list[Version]]:
    """Events and labels with ties on midnights, late arrivals, corrections, null keys and null values."""
    events: list[Version] = []
    labels: list[Version] = []
    hours = st.integers(0, DAYS * 24 - 1)
    value = st.one_of(st.none(), st.integers(-300, 300).map(lambda cents: cents / 100))
    for id_ in range(draw(st.integers(0, 14))):
        at = START + draw(st.one_of(hours, st.integers(0, DAYS - 1).map(lambda day: day * 24))) * HOUR
        key = draw(st.sampled_from([1, 2, 3, None]))
        lags = sorted(draw(st.sets(st.integers(0, 100), min_size=1, max_size=3)))
        events += [Version(id_, key, at, at + lag * HOUR, draw(value)) for lag in lags]
        lags = sorted(draw(st.sets(st.integers(0, 150), max_size=2)))
        labels += [Version(id_, None, at, at + lag * HOUR, float(draw(st.integers(0, 1)))) for lag in lags]
    return events, labels


def latest(versions: list[Version], known_by: dt.datetime) -> dict[int, Version]:
    """The latest version of each id that was known by a time."""
    found: dict[int, Version] = {}
    for version in sorted(versions, key=lambda v: v.created):
        if version.created <= known_by:
            found[version.id] = version
    return found


def expected(
    events: list[Version], labels: list[Version], features: list[Feature], days: range
) -> dict[tuple[int, dt.datetime], tuple[Any, ...]]:
    """Every snapshot row by the definitions: windows [T - delay - W, T - delay) over what was known at T."""
    rows: dict[tuple[int, dt.datetime], tuple[Any, ...]] = {}
    for day in days:
        at = START + dt.timedelta(days=day + 1)
        known, known_labels = latest(events, at), latest(labels, at)
        keys = {v.key for v in events if v.created <= at and v.key is not None}
        for key in keys:
            values: list[Any] = []
            for feature in features:
                end = at - feature.delay.timedelta()
                window = [
                    v
                    for v in known.values()
                    if v.key == key and end - feature.window.timedelta() <= v.at < end
                ]
                if feature.of_label:
                    inside = [known_labels[v.id].value for v in window if v.id in known_labels]
                else:
                    inside = [v.value for v in window]
                numbers = [Decimal(str(x)) for x in inside if x is not None]
                total = float(sum(numbers, Decimal(0)))
                empty = None if not numbers else total
                mean = None if not numbers else total / len(numbers)
                values.append({"count": len(numbers), "sum": empty, "mean": mean}[feature.function])
            rows[(key, at)] = tuple(values)
    return rows


def features() -> list[Feature]:
    """Counts, sums and means of events and labels over short windows and delays."""
    shapes = [("count", 1, 0), ("sum", 3, 0), ("mean", 2, 1), ("count", 4, 2)]
    plain = [
        Feature(f"v_{function}_{w}_{d}", "value", function, Duration.days(w), Duration.days(d), False)
        for function, w, d in shapes
    ]
    late = [
        Feature(f"l_{function}_{w}", "truth", function, Duration.days(w), Duration.days(3), True)
        for function, w in (("count", 2), ("mean", 5), ("sum", 1))
    ]
    return [*plain, *late]


def computed(
    events: list[Version], labels: list[Version], wanted: list[Feature], days: range
) -> dict[tuple[int, dt.datetime], tuple[Any, ...]]:
    """The same rows from the platform's query."""
    keys = [(START + dt.timedelta(days=day)).date().isoformat() for day in (days[0], days[-1])]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", table(events, "value", with_key=True))
        connection.register("labels", table(labels, "truth", with_key=False))
        query = SnapshotQuery(
            "key_id",
            "event_id",
            wanted,
            "SELECT * FROM events",
            "SELECT event_id, created_timestamp, truth FROM labels",
            "SELECT key_id, created_timestamp FROM events",
            *keys,
        )
        rows = connection.sql(snapshot_sql(query)).to_arrow_table().to_pylist()
    assert all(row["created_timestamp"] == row["event_timestamp"] for row in rows)
    assert [(r["event_timestamp"], r["key_id"]) for r in rows] == sorted(
        (r["event_timestamp"], r["key_id"]) for r in rows
    )
    return {
        (row["key_id"], row["event_timestamp"]): tuple(row[feature.name] for feature in wanted)
        for row in rows
    }


def table(versions: list[Version], column: str, *, with_key: bool) -> pa.Table:
    """Versions as a source's rows."""
    columns = {
        "event_id": pa.array([v.id for v in versions], pa.int64()),
        "event_timestamp": pa.array([v.at for v in versions], TIME),
        "created_timestamp": pa.array([v.created for v in versions], TIME),
        column: pa.array([v.value for v in versions], pa.float64()),
    }
    if with_key:
        columns["key_id"] = pa.array([v.key for v in versions], pa.int64())
    return pa.table(columns)


@settings(max_examples=120, deadline=None)
@given(world=worlds(), first=st.integers(0, DAYS - 1), length=st.integers(1, DAYS))
def test_a_range_of_snapshots_is_what_the_definitions_say(
    world: tuple[list[Version], list[Version]], first: int, length: int
) -> None:
    days = range(first, min(first + length, DAYS))
    assert computed(*world, features(), days) == expected(*world, features(), days)


@settings(max_examples=25, deadline=None)
@given(world=worlds(), day=st.integers(0, DAYS - 1))
def test_a_day_alone_is_bit_for_bit_the_day_in_a_range(
    world: tuple[list[Version], list[Version]], day: int
) -> None:
    whole = computed(*world, features(), range(DAYS))
    at = START + dt.timedelta(days=day + 1)
    assert computed(*world, features(), range(day, day + 1)) == {k: v for k, v in whole.items() if k[1] == at}


@settings(max_examples=25, deadline=None)
@given(world=worlds(), day=st.integers(0, DAYS - 2), extra=worlds())
def test_what_is_known_later_changes_no_earlier_snapshot(
    world: tuple[list[Version], list[Version]], day: int, extra: tuple[list[Version], list[Version]]
) -> None:
    at = START + dt.timedelta(days=day + 1)
    late_events = [Version(1000 + v.id, v.key, v.at, max(v.created, at + HOUR), v.value) for v in extra[0]]
    before = computed(*world, features(), range(day + 1))
    after = computed([*world[0], *late_events], world[1], features(), range(day + 1))
    assert before == after
