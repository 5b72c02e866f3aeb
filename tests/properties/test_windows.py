"""Windowed features against a brute force that is written from the definitions, not from the SQL."""

import datetime as dt
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.features.aggregation import Aggregate, Ratio
from ml_platform.features.compute import WindowQuery
from ml_platform.features.known_at import prompt_sql
from ml_platform.features.view_query import view_sql
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.partitions import DAILY, HOURLY, Cadence

START = dt.datetime(2018, 4, 1, tzinfo=dt.UTC)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAYS = 12
HOUR = dt.timedelta(hours=1)
MICRO = dt.timedelta(microseconds=1)
WORLDS = 12
"""Worlds of one query, at most: with 60 examples a test makes some hundreds of them."""
TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Version:
    """One version of an event or label: id, key (events), event time, created time, value, a text, a second key."""

    id: int
    key: int | None
    at: dt.datetime
    created: dt.datetime
    value: float | None
    text: str | None = None
    kind: str | None = None


Keys = tuple[str, ...]
KEYS: list[Keys] = [("key_id",), ("key_id", "kind"), ("kind", "key_id")]
"""What a view can be about: one entity, or two."""


def about(version: Version, keys: Keys) -> tuple[Any, ...] | None:
    """The values of a version's keys; None where one is missing."""
    found = tuple(version.key if key == "key_id" else version.kind for key in keys)
    return None if None in found else found


World = tuple[list[Version], list[Version]]


@st.composite
def worlds(draw: st.DrawFn, *, prompt: bool = False) -> World:
    """Events and labels with ties, late arrivals, corrections (of keys too), null keys and null values."""
    events: list[Version] = []
    labels: list[Version] = []
    moments = st.one_of(
        st.integers(0, DAYS * 24 - 1).map(lambda hour: hour * HOUR),
        st.integers(0, DAYS - 1).map(lambda day: day * 24 * HOUR),
        st.integers(1, DAYS - 1).map(lambda day: day * 24 * HOUR - MICRO),
        st.integers(1, DAYS * 48 - 1).map(lambda half: half * HOUR / 2),
    )
    value = st.one_of(st.none(), st.integers(-300, 300).map(lambda cents: cents / 100))
    text = st.sampled_from([None, "a", "b", "c"])
    lags = st.sets(st.sampled_from([0, 0, 0.5, 1, 5, 23, 24, 30, 100]), min_size=1, max_size=3)
    kinds = st.sampled_from(["x", "x", "y", None])
    label_lags = st.sets(st.sampled_from([0, 24, 72, 73, 150]), max_size=2)
    for id_ in range(draw(st.integers(0, 14))):
        at = START + draw(moments)
        key, kind = draw(st.sampled_from([1, 1, 2, None])), draw(kinds)
        for lag in [0] if prompt else sorted(draw(lags)):
            moved = key if draw(st.integers(0, 9)) else draw(st.sampled_from([1, 2]))
            renamed = kind if draw(st.integers(0, 9)) else draw(kinds)
            events.append(Version(id_, moved, at, at + lag * HOUR, draw(value), draw(text), renamed))
        for lag in [72] if prompt else sorted(draw(label_lags)):
            truth = float(draw(st.integers(0, 1)))
            labels.append(Version(id_, None, at, at + lag * HOUR, truth))
    return events, labels


@st.composite
def many(draw: st.DrawFn, one: st.SearchStrategy[World]) -> World:
    """Some worlds in one, each with ids and keys of its own."""
    events: list[Version] = []
    labels: list[Version] = []
    for i, world in enumerate(draw(st.lists(one, min_size=1, max_size=WORLDS))):
        events += [replace(v, id=v.id + 100 * i, key=v.key and v.key + 10 * i) for v in world[0]]
        labels += [replace(v, id=v.id + 100 * i) for v in world[1]]
    return events, labels


FUNCTIONS = ["count", "sum", "mean", "min", "max", "stddev", "first", "last", "count_distinct"]
WHERE = {
    "v > 0": lambda v: v.value is not None and v.value > 0,
    "t = 'a' OR v < -1": lambda v: v.text == "a" or (v.value is not None and v.value < -1),
}


LENGTHS: dict[tuple[str, bool], tuple[list[float], list[float]]] = {
    ("daily", True): ([24, 48, 96, 240], [0, 24, 72]),
    ("daily", False): ([1, 7, 24, 36, 240], [0, 0, 5, 24]),
    ("hourly", True): ([1, 2, 7, 24, 72], [0, 1, 24]),
    ("hourly", False): ([0.5, 1, 7, 36], [0, 0.5, 5]),
}
"""Hours of windows and delays, by cadence and whether they are whole days, or hours."""


@st.composite
def shapes(draw: st.DrawFn, *, accuracy: str, whole: bool, cadence: Cadence = DAILY) -> list[Aggregate]:
    """Some aggregates of events and labels, of any function, window, delay and filter that can be declared."""
    lengths, delays = LENGTHS[cadence.name, whole]
    found: list[Aggregate] = []
    for i in range(draw(st.integers(1, 5))):
        stream = draw(st.sampled_from(["events", "events", "labels"]))
        column, kind = (
            ("truth", "int64")
            if stream == "labels"
            else draw(st.sampled_from([("v", "double"), ("t", "string")]))
        )
        allowed = [f for f in FUNCTIONS if kind != "string" or f not in ("sum", "mean", "stddev")]
        if whole:
            allowed = [f for f in allowed if f != "count_distinct"]
        delay = 72 if stream == "labels" else draw(st.sampled_from(delays))
        found.append(
            Aggregate(
                name=f"f{i}",
                column=column,
                function=draw(st.sampled_from(allowed)),
                window=Duration(int(draw(st.sampled_from(lengths)) * 3600)),
                delay=Duration(int(delay * 3600)),
                stream=stream,
                where=draw(st.sampled_from([None, None, *WHERE])),
                closed=accuracy == "event" and delay == 0 and draw(st.booleans()),
                kind=kind,
                bits=7 if stream == "labels" else 63,
            )
        )
    return found


def latest(versions: Sequence[Version], known_by: dt.datetime) -> dict[int, Version]:
    """The latest version of each id that was known by a time."""
    found: dict[int, Version] = {}
    for version in sorted(versions, key=lambda v: v.created):
        if version.created <= known_by:
            found[version.id] = version
    return found


def inside(aggregate: Aggregate, at: dt.datetime, t: dt.datetime) -> bool:
    end = t - aggregate.delay.timedelta()
    start = end - aggregate.window.timedelta()
    return start <= at < end or (aggregate.closed and at == end)


def answer(
    aggregate: Aggregate,
    world: World,
    key: tuple[Any, ...],
    t: dt.datetime,
    itself: Version | None,
    *,
    keys: Keys,
) -> Any:
    """One feature of a key at a time, from every version there is."""
    known, labels = latest(world[0], t), latest(world[1], t)
    if itself is not None and aggregate.closed:
        known = {**known, itself.id: itself}
    taken: list[tuple[dt.datetime, int, Any]] = []
    for version in known.values():
        if about(version, keys) != key or not inside(aggregate, version.at, t):
            continue
        if aggregate.where and not WHERE[aggregate.where](version):
            continue
        value: Any = version.value if aggregate.column == "v" else version.text
        if aggregate.stream == "labels":
            value = int(labels[version.id].value or 0) if version.id in labels else None
        if value is not None:
            taken.append((version.at, version.id, value))
    return reduced(aggregate, [value for *_, value in sorted(taken)])


def reduced(aggregate: Aggregate, values: list[Any]) -> Any:
    """An aggregate of the values of a window, oldest first."""
    if aggregate.function in ("count", "count_distinct"):
        return len(values if aggregate.function == "count" else set(values))
    if not values or (aggregate.function == "stddev" and len(values) < 2):
        return None
    if aggregate.function in ("sum", "mean"):
        total = float(sum((Decimal(str(v)) for v in values), Decimal(0)))
        return total if aggregate.function == "sum" else total / len(values)
    if aggregate.function == "stddev":
        return pytest.approx(float(statistics.stdev(Decimal(str(v)) for v in values)), abs=1e-9)
    return {"min": min(values), "max": max(values), "first": values[0], "last": values[-1]}[
        aggregate.function
    ]


def expected_snapshots(
    world: World, shape: list[Aggregate], partitions: range, cadence: Cadence, keys: Keys
) -> dict[Any, list[Any]]:
    rows: dict[Any, list[Any]] = {}
    for t in (START + (number + 1) * cadence.period for number in partitions):
        for key in {about(v, keys) for v in world[0] if v.created <= t and v.at < t} - {None}:
            assert key is not None
            rows[(key, t)] = [t, *(answer(a, world, key, t, None, keys=keys) for a in shape)]
    return rows


def expected_events(
    world: World, shape: list[Aggregate], partitions: range, cadence: Cadence, keys: Keys
) -> dict[Any, list[Any]]:
    rows: dict[Any, list[Any]] = {}
    first, last = (START + number * cadence.period for number in (partitions[0], partitions[-1] + 1))
    for id_ in {v.id for v in world[0]}:
        mine = sorted((v for v in world[0] if v.id == id_), key=lambda v: v.created)
        t = mine[0].at
        itself = latest(mine, t).get(id_, mine[0])
        key = about(itself, keys)
        if first <= t < last and key is not None:
            answers = (answer(a, world, key, t, itself, keys=keys) for a in shape)
            rows[(key, id_)] = [max(t, itself.created), *answers]
    return rows


def computed(
    world: World,
    shape: list[Aggregate],
    partitions: range,
    accuracy: Any,
    *,
    cadence: Cadence = DAILY,
    keys: Keys = KEYS[0],
    prompt: bool | None = None,
    ratios: tuple[Ratio, ...] = (),
) -> dict[Any, list[Any]]:
    """The same rows from the platform's query; `prompt` None lets the data decide, as the platform does."""
    ends = [START + number * cadence.period for number in (partitions[0], partitions[-1] + 1)]
    query = WindowQuery(
        keys,
        "event_id",
        accuracy,
        tuple(shape),
        ratios,
        "events",
        "labels",
        "events",
        *((end - EPOCH) // MICRO for end in ends),
        cadence=cadence,
    )
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # Later events are in partitions that are not read.
        connection.register("events", table([v for v in world[0] if v.at < ends[1]]))
        connection.register("labels", table(world[1]))
        if prompt is None:
            prompt = all(connection.execute(sql).fetchall()[0][0] for sql in prompt_sql(query))
        at_once = prompt and all(v.created <= v.at for v in world[0])
        query = replace(query, prompt=prompt, at_once=at_once)
        rows = connection.sql(view_sql(query)).to_arrow_table().to_pylist()
    second = "event_id" if accuracy == "event" else "event_timestamp"
    names = ["created_timestamp", *(a.name for a in shape), *(r.named for r in ratios)]
    found = {(tuple(r[key] for key in keys), r[second]): [r[name] for name in names] for r in rows}
    assert len(found) == len(rows), "a row came twice"
    order = [(r[cadence.column], *(r[key] for key in keys), r[second]) for r in rows]
    assert order == sorted(order)
    for row in rows:
        inside = row["event_timestamp"] - (dt.timedelta(0) if accuracy == "event" else MICRO)
        assert str(row[cadence.column]) == cadence.key(inside)
    return found


def table(versions: Sequence[Version]) -> pa.Table:
    """Versions as a source's rows."""
    return pa.table(
        {
            "event_id": pa.array([v.id for v in versions], pa.int64()),
            "key_id": pa.array([v.key for v in versions], pa.int64()),
            "kind": pa.array([v.kind for v in versions], pa.string()),
            "event_timestamp": pa.array([v.at for v in versions], TIME),
            "created_timestamp": pa.array([v.created for v in versions], TIME),
            "v": pa.array([v.value for v in versions], pa.float64()),
            "t": pa.array([v.text for v in versions], pa.string()),
            "truth": pa.array([None if v.value is None else int(v.value) for v in versions], pa.int64()),
        }
    )


def ranges(cadence: Cadence) -> st.SearchStrategy[range]:
    """Some partitions in a row."""
    last = DAYS * dt.timedelta(days=1) // cadence.period
    return st.tuples(st.integers(0, last - 1), st.integers(1, 2 * DAYS)).map(
        lambda drawn: range(drawn[0], min(sum(drawn), last))
    )


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
often = settings(max_examples=100, suppress_health_check=SLOW)
fewer = settings(max_examples=25, suppress_health_check=SLOW)
ACCURACIES = [
    pytest.param("snapshot", True, DAILY, id="snapshots of whole days"),
    pytest.param("snapshot", False, DAILY, id="snapshots of any windows"),
    pytest.param("event", False, DAILY, id="events"),
    pytest.param("snapshot", True, HOURLY, id="hourly snapshots of whole hours"),
    pytest.param("snapshot", False, HOURLY, id="hourly snapshots of any windows"),
    pytest.param("event", False, HOURLY, id="events by hour"),
]
EXPECTED = {"snapshot": expected_snapshots, "event": expected_events}


@pytest.mark.parametrize(("accuracy", "whole", "cadence"), ACCURACIES)
@often
@given(data=st.data(), world=many(worlds()))
def test_features_are_what_the_definitions_say(
    accuracy: str, whole: bool, cadence: Cadence, data: st.DataObject, world: World
) -> None:
    partitions = data.draw(ranges(cadence))
    shape = data.draw(shapes(accuracy=accuracy, whole=whole, cadence=cadence))
    keys = data.draw(st.sampled_from(KEYS))
    found = computed(world, shape, partitions, accuracy, cadence=cadence, keys=keys)
    assert found == EXPECTED[accuracy](world, shape, partitions, cadence, keys)


@pytest.mark.parametrize(("accuracy", "whole", "cadence"), ACCURACIES)
@fewer
@given(data=st.data(), world=many(worlds(prompt=True)))
def test_the_simpler_query_for_prompt_events_gives_what_the_general_one_gives(
    accuracy: str, whole: bool, cadence: Cadence, data: st.DataObject, world: World
) -> None:
    partitions = data.draw(ranges(cadence))
    shape = data.draw(shapes(accuracy=accuracy, whole=whole, cadence=cadence))
    keys = data.draw(st.sampled_from(KEYS))
    simpler = computed(world, shape, partitions, accuracy, cadence=cadence, keys=keys, prompt=True)
    assert simpler == EXPECTED[accuracy](world, shape, partitions, cadence, keys)
    assert simpler == computed(world, shape, partitions, accuracy, cadence=cadence, keys=keys, prompt=False)


@pytest.mark.parametrize(("accuracy", "whole", "cadence"), ACCURACIES)
@fewer
@given(data=st.data(), world=many(worlds()))
def test_a_partition_alone_has_the_rows_that_it_has_in_a_range(
    accuracy: str, whole: bool, cadence: Cadence, data: st.DataObject, world: World
) -> None:
    partitions = data.draw(ranges(cadence))
    shape = data.draw(shapes(accuracy=accuracy, whole=whole, cadence=cadence))
    keys = data.draw(st.sampled_from(KEYS))
    together = computed(world, shape, partitions, accuracy, cadence=cadence, keys=keys)
    one = data.draw(st.sampled_from(partitions))
    alone = computed(world, shape, range(one, one + 1), accuracy, cadence=cadence, keys=keys)
    assert alone == {row: answers for row, answers in together.items() if row in alone}
    first, last = (START + number * cadence.period for number in (one, one + 1))
    if accuracy == "snapshot":
        assert set(alone) == {row for row in together if row[1] == last}
    else:
        times = {version.id: version.at for version in world[0]}
        assert set(alone) == {row for row in together if first <= times[row[1]] < last}


@pytest.mark.parametrize(("accuracy", "whole", "cadence"), ACCURACIES)
@fewer
@given(data=st.data(), world=many(worlds()), hours=st.integers(1, DAYS * 24 - 1))
def test_no_version_that_happens_or_is_known_later_changes_a_feature(
    accuracy: str, whole: bool, cadence: Cadence, data: st.DataObject, world: World, hours: int
) -> None:
    every = range(DAYS * dt.timedelta(days=1) // cadence.period)
    shape = data.draw(shapes(accuracy=accuracy, whole=whole, cadence=cadence))
    time = START + hours * HOUR
    until_then = [[v for v in versions if v.at <= time and v.created <= time] for versions in world]
    keys = data.draw(st.sampled_from(KEYS))
    before = computed((until_then[0], until_then[1]), shape, every, accuracy, cadence=cadence, keys=keys)
    after = computed(world, shape, every, accuracy, cadence=cadence, keys=keys)
    times = {v.id: v.at for v in world[0]}
    by_then = {row for row in before if (row[1] if accuracy == "snapshot" else times[row[1]]) <= time}
    assert {row: after[row] for row in by_then} == {row: before[row] for row in by_then}
    if accuracy == "snapshot":
        assert {row for row in after if row[1] <= time} == by_then


@fewer
@given(world=many(worlds()), days=ranges(DAILY))
def test_a_ratio_is_one_feature_over_another(world: World, days: range) -> None:
    spent, count = (
        Aggregate(name=name, column="v", function=name, window=Duration.days(2)) for name in ("sum", "count")
    )
    ratio = Ratio(named="share", numerator="sum", denominator="count")
    found = computed(world, [spent, count], days, "snapshot", ratios=(ratio,))
    for _, total, number, share in found.values():
        assert share == (total / number if number else None)


def test_a_value_out_of_range_is_an_error_and_no_other_number() -> None:
    event = Version(1, 1, START, START, 1e14)
    total = Aggregate(name="f", column="v", function="sum", window=Duration.days(1))
    with pytest.raises(duckdb.ConversionException, match="out of range"):
        computed(([event], []), [total], range(1), "snapshot")
