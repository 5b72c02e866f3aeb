"""A source that is published by the hour: the same landing, audit and gate, one partition for every hour."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from ml_platform.gates.guard import closed_gates
from ml_platform.gates.refused import broken_rows, refused_partitions
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.kernel.lineage import Lineage, Node, Upstream
from ml_platform.kernel.partitions import key_range
from ml_platform.lake.ledger import published
from ml_platform.sources.component import column_schema
from ml_platform.sources.feed import land_from_feed
from ml_platform.sources.landing import land_nothing
from ml_platform.sources.spec import Feed
from ml_platform.sources.store import landed_days
from tests.sources.deliveries import SCHEMA, Deliveries, Materialized, payment, payments

HOURS = key_range("2018-04-01-10:00", "2018-04-01-13:00")
FIRST, SECOND, QUIET, LAST = HOURS


@pytest.fixture
def asset(source: Deliveries) -> Iterator[Materialized]:
    source.spec = payments(partitions="hourly", expectations=[{"column": "amount", "between": [0, 1000]}])
    with dg.DagsterInstance.ephemeral() as instance:
        yield Materialized(source, instance)


def good(hour: str, id: int, minutes: int = 15, **values: Any) -> Any:
    return payment(id, f"{hour[:10]}T{hour[11:13]}:{minutes:02}:00", **values)


def test_a_range_publishes_its_good_hours_and_keeps_the_bad_one_apart(asset: Materialized) -> None:
    asset.source.land([good(FIRST, 1, 0), good(SECOND, 2, amount=9000.0), good(SECOND, 3), good(LAST, 4, 59)])
    report = asset.run(FIRST, LAST)
    assert f"{SECOND}: quality: 1 of 2 rows break it" in report.error
    assert asset.published() == {FIRST: [(1, 5.0)], LAST: [(4, 5.0)]}
    assert asset.refused() == {SECOND: [(2, 9000.0), (3, 5.0)]}
    there = published(asset.source.lake, "sources/payments")
    assert {key: made.rows for key, made in there.items()} == {FIRST: 1, QUIET: 0, LAST: 1}, (
        "nobody paid at noon"
    )
    (refused,) = refused_partitions(asset.instance, asset.source.lake, "sources/payments")
    settings, expectations = asset.source.settings, asset.source.spec.expectations
    broken = broken_rows(settings, asset.source.lake, refused, expectations, limit=9)
    assert [[row["id"] for row in rows] for rows in broken.values()] == [[2]]


def test_a_refused_hour_closes_the_gate_of_its_day_and_of_no_other(asset: Materialized) -> None:
    asset.source.land([good(FIRST, 1, amount=9000.0)])
    asset.run(FIRST)
    (events,) = asset.source.spec.nodes(catalog_of(asset))
    model = Node("models/daily", events.first_day, events.last_day, upstream=(Upstream(events.key),))
    lineage = Lineage({node.key: node for node in (events, model)})
    closed = {
        gate.reason: gate.partitions
        for gate in closed_gates(asset.instance, lineage, model.key, "2018-04-01", lake=asset.source.lake)
    }
    assert closed == {
        "failed": (FIRST,),
        "missing": tuple(key for key in key_range("2018-04-01-00:00", "2018-04-01-23:00") if key != FIRST),
    }
    after = closed_gates(asset.instance, lineage, model.key, "2018-04-02", lake=asset.source.lake)
    assert {gate.reason for gate in after} == {"missing"}


def catalog_of(asset: Materialized) -> Any:
    from ml_platform.kernel.catalog import Catalog

    return Catalog({(type(asset.source.spec), "payments"): asset.source.spec})


def test_hours_are_compared_with_the_same_hour_of_the_days_before(asset: Materialized) -> None:
    """A night has fewer rows than a noon, and that is no fault of the night."""
    asset.source.spec = payments(
        partitions="hourly", expectations=[{"rows_within": {"of_mean": 0.5, "days": 2}}]
    )
    days, number = ["2018-04-01", "2018-04-02", "2018-04-03"], iter(range(1000))
    rows = [
        good(f"{day}-{hour:02}:00", next(number), minute)
        for day in days
        for hour, count in ((3, 2), (12, 20))
        for minute in range(count if (day, hour) != (days[-1], 12) else 5)
    ]
    asset.source.land(rows)
    report = asset.run("2018-04-01-03:00", "2018-04-03-12:00")
    assert "blocking checks failed for 2018-04-03-12:00" in report.error
    assert "5 events; 20.0 on average on the 2 accepted days before" in report.error


def test_a_value_is_referenced_since_the_hour_in_which_it_exists(asset: Materialized) -> None:
    known = payments(name="known", partitions="hourly", expectations=[])
    mine = payments(
        partitions="hourly",
        expectations=[{"column": "id", "references": {"source": "known", "column": "id"}}],
    )
    asset.others = (known,)
    asset.source.spec = known
    asset.source.land([good(FIRST, 7), good(LAST, 8)])
    asset.run(FIRST, LAST)
    asset.others = (known,)
    asset.source.spec = mine
    asset.source.land([good(FIRST, 7, 30), good(SECOND, 8)])
    assert f"failed for {SECOND}." in asset.run(FIRST, SECOND).error, "8 was not there yet"


def test_an_hour_cannot_wait_for_the_end_of_its_day(asset: Materialized) -> None:
    daily = payments(name="known", expectations=[])
    mine = payments(
        partitions="hourly",
        expectations=[{"column": "id", "references": {"source": "known", "column": "id"}}],
    )
    asset.others, asset.source.spec = (daily,), mine
    with pytest.raises(DeclarationError, match="are complete 23 hours later"):
        asset.run(FIRST)


def test_a_feed_is_asked_for_hours(source: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[dt.datetime, dt.datetime]] = []

    def feed(*, first_hour: dt.datetime, last_hour: dt.datetime) -> pa.Table:
        asked.append((first_hour, last_hour))
        return pa.Table.from_pylist([good(FIRST, 1), good(LAST, 2)], schema=SCHEMA)

    monkeypatch.setattr("tests.sources.test_hours.delivered", feed, raising=False)
    feed_of = Feed(function="tests.sources.test_hours.delivered")
    source.spec = payments(partitions="hourly", feed=feed_of.model_dump())
    land_from_feed(source.settings, source.spec, HOURS)
    assert asked == [tuple(dt.datetime(2018, 4, 1, hour, tzinfo=dt.UTC) for hour in (10, 13))]
    assert landed_days(source.lake, "payments") == set(HOURS)


def test_an_hour_without_events_is_said_by_its_key(asset: Materialized) -> None:
    asset.source.land([good(FIRST, 1)])
    with pytest.raises(InputError, match=r"an hour of .* such as 2018-06-01-13:00; got '2018-04-01'"):
        land_nothing(asset.source.settings, asset.source.spec, "2018-04-01", reason="closed")
    land_nothing(asset.source.settings, asset.source.spec, SECOND, reason="closed")
    assert asset.run(FIRST, SECOND).success
    assert sorted(published(asset.source.lake, "sources/payments")) == [FIRST, SECOND]


def test_the_table_says_its_hour_as_the_key_does() -> None:
    columns = column_schema(payments(partitions="hourly")).columns
    assert [column.name for column in columns][-1] == "partition_hour"
