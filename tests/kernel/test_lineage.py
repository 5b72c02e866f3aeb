"""Which days of which assets a partition depends on: the walk that the gates trust."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.lineage import Lineage, Node, Upstream
from ml_platform.kernel.partitions import Range, day, key_of, key_range

START = dt.date(2018, 6, 1)
Walk = dict[str, set[dt.date]]


def date(number: int) -> dt.date:
    return START + dt.timedelta(days=number)


def key(number: int) -> str:
    return key_of(date(number))


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    """Graphs of up to six assets, each reading windows of earlier ones; some end, some are not partitioned."""
    nodes: dict[str, Node] = {}
    for number in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from(sorted(nodes)), unique=True, max_size=3)) if nodes else []
        upstream = []
        for name in names:
            first = draw(st.integers(-4, 1))
            upstream.append(Upstream(name, first=first, last=draw(st.integers(first, 1))))
        start = draw(st.none() | st.integers(0, 6)) if number else 0
        length = draw(st.none() | st.integers(0, 12)) if start is not None else None
        first_day = None if start is None else date(start)
        last_day = None if start is None or length is None else date(start + length)
        nodes[f"a{number}"] = Node(f"a{number}", first_day, last_day, upstream=tuple(upstream))
    return Lineage(nodes)


def naive(lineage: Lineage, key: str, day: dt.date, *, fill: bool) -> Walk:
    """Day by day until nothing is new; with `fill`, days between two that are reached are reached as well."""
    reached: Walk = {key: {day}}
    while True:
        before = {name: set(days) for name, days in reached.items()}
        for name, days in before.items():
            for upstream in lineage.node(name).upstream:
                for step in range(upstream.first, upstream.last + 1):
                    for one in days:
                        add(reached, lineage.node(upstream.key), one + dt.timedelta(days=step))
        if fill:
            for days in reached.values():
                days |= {min(days) + dt.timedelta(days=i) for i in range((max(days) - min(days)).days)}
        if reached == before:
            del reached[key]
            return reached


def add(reached: Walk, node: Node, day: dt.date) -> None:
    if node.first_day is not None and node.first_day <= day <= (node.last_day or day):
        reached.setdefault(node.key, set()).add(day)


def covered(keys: Range) -> set[dt.date]:
    return {day(key) for key in key_range(*keys)}


@given(lineages(), st.integers(0, 20).map(date))
def test_the_walk_reaches_what_a_naive_walk_over_covering_ranges_reaches(
    lineage: Lineage, day: dt.date
) -> None:
    key = max(lineage.nodes)
    found = {name: covered(keys) for name, keys in lineage.upstream_partitions(key, key_of(day)).items()}
    assert found == naive(lineage, key, day, fill=True)


@given(lineages(), st.integers(0, 20).map(date))
def test_no_day_that_is_really_read_is_left_out(lineage: Lineage, day: dt.date) -> None:
    key = max(lineage.nodes)
    found = {name: covered(keys) for name, keys in lineage.upstream_partitions(key, key_of(day)).items()}
    for name, days in naive(lineage, key, day, fill=False).items():
        assert days <= found[name]


def test_days_between_two_ways_are_covered_further_up_as_well() -> None:
    """A range is never half asked for, although the two ends alone would not reach the short-lived source."""
    nodes = (
        Node("short", date(5), date(6)),
        Node("middle", date(0), upstream=(Upstream("short"),)),
        Node("near", date(0), upstream=(Upstream("middle"),)),
        Node("far", date(0), upstream=(Upstream("middle", first=-8, last=-8),)),
        Node("model", date(0), upstream=(Upstream("near"), Upstream("far"))),
    )
    lineage = Lineage({node.key: node for node in nodes})
    found = lineage.upstream_partitions("model", key(10))
    assert (found["middle"], found["short"]) == ((key(2), key(10)), (key(5), key(6)))


def test_two_ways_to_one_asset_are_joined_to_one_covering_range() -> None:
    nodes = (
        Node("source", date(0)),
        Node("near", date(0), upstream=(Upstream("source"),)),
        Node("far", date(0), upstream=(Upstream("source", first=-5, last=-3),)),
        Node("model", date(0), upstream=(Upstream("near"), Upstream("far"))),
    )
    lineage = Lineage({node.key: node for node in nodes})
    assert lineage.upstream_partitions("model", key(9))["source"] == (key(4), key(9))


def test_days_that_an_upstream_does_not_have_are_not_asked_for() -> None:
    nodes = (
        Node("ended", date(2), date(5)),
        Node("model", date(0), upstream=(Upstream("ended", first=-2, last=1),)),
    )
    lineage = Lineage({node.key: node for node in nodes})
    assert lineage.upstream_partitions("model", key(3)) == {"ended": (key(2), key(4))}
    assert lineage.upstream_partitions("model", key(7)) == {"ended": (key(5), key(5))}
    assert lineage.upstream_partitions("model", key(0)) == {}
    assert lineage.upstream_partitions("model", key(8)) == {}


def test_assets_without_partitions_are_left_out_and_clip_to_nothing() -> None:
    registry = Node("registry")
    nodes = {"registry": registry, "view": Node("view", date(0), upstream=(Upstream("registry"),))}
    assert Lineage(nodes).upstream_partitions("view", key(1)) == {}
    assert not registry.partitioned and registry.clip((key(0), key(1))) is None


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(-3, -1, None), (-3, 0, (0, 0)), (3, 9, (3, 5)), (6, 9, None)]
)
def test_a_range_is_clipped_to_the_days_of_an_asset(
    first: int, last: int, expected: tuple[int, int] | None
) -> None:
    node = Node("asset", date(0), date(5))
    wanted = None if expected is None else (key(expected[0]), key(expected[1]))
    assert node.clip((key(first), key(last))) == wanted


def test_what_rows_are_only_checked_against_is_a_dependency_and_no_input() -> None:
    view = Node(
        "view",
        date(0),
        upstream=(Upstream("events", first=-29), Upstream("labels", first=-9, last=-2)),
        references=(Upstream("events", keys=("id",)), Upstream("terminals", keys=("id",))),
    )
    lineage = Lineage(
        {node.key: node for node in (view, *(Node(k, date(0)) for k in ("events", "labels", "terminals")))}
    )
    assert {u.key: (u.first, u.last) for u in view.dependencies} == {
        "events": (-29, 0),
        "labels": (-9, -2),
        "terminals": (0, 0),
    }
    assert set(lineage.direct_partitions("view", (key(20), key(20)))) == {"events", "labels"}
    assert set(lineage.upstream_partitions("view", key(20))) == {"events", "labels"}


def test_a_day_reads_all_hours_of_its_days_and_an_hour_the_days_that_its_hours_are_in() -> None:
    nodes = (
        Node("events", date(0), date(9), partitions="hourly"),
        Node("labels", date(0), date(9)),
        Node(
            "view",
            date(0),
            date(9),
            upstream=(Upstream("events", first=-2), Upstream("labels", first=-30, last=-24)),
            partitions="hourly",
        ),
        Node("profile", date(1), upstream=(Upstream("events"), Upstream("view", first=-1))),
    )
    lineage = Lineage({node.key: node for node in nodes})
    assert lineage.direct_partitions("view", ("2018-06-03-05:00", "2018-06-03-05:00")) == {
        "events": ("2018-06-03-03:00", "2018-06-03-05:00"),
        "labels": ("2018-06-01", "2018-06-02"),
    }
    assert lineage.upstream_partitions("profile", key(2)) == {
        "view": ("2018-06-02-00:00", "2018-06-03-23:00"),
        "events": ("2018-06-01-22:00", "2018-06-03-23:00"),
        "labels": ("2018-06-01", "2018-06-02"),
    }


def test_an_hourly_asset_has_all_hours_of_its_days_and_no_other() -> None:
    node = Node("events", date(0), date(1), lag=3, partitions="hourly")
    assert (node.first, node.last) == ("2018-06-01-00:00", "2018-06-02-23:00")
    assert node.clip(("2018-05-30", "2018-06-01")) == ("2018-06-01-00:00", "2018-06-01-23:00")
    assert node.clip(("2018-06-03-00:00", "2018-06-03-05:00")) is None
    assert node.newest(dt.datetime(2018, 6, 1, 12, 59, tzinfo=dt.UTC)) == "2018-06-01-08:00"
    assert Node("days", date(0), lag=2).newest(dt.datetime(2018, 6, 9, 6, tzinfo=dt.UTC)) == "2018-06-06"
