"""Which versions of an event landed rows make, and which of them was known when: two times, against a naive reading."""

import datetime as dt
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.sources.compute import columns_of, latest_versions_sql, versions_sql
from ml_platform.sources.store import stage_versions
from tests.sources.deliveries import DAY, SCHEMA, Deliveries, csv, payment, payments, rows_of

SPEC = payments()
START = dt.datetime(2018, 4, 1, tzinfo=dt.UTC)
Query = Callable[..., list[dict[str, Any]]]
TIME = pa.timestamp("us", "UTC")
LANDED = pa.schema(
    [
        ("id", pa.int64()),
        ("event_timestamp", TIME),
        ("amount", pa.float64()),
        ("note", pa.string()),
        ("created_timestamp", TIME),
        ("partition_date", pa.date32()),
        ("landing_order", pa.int64()),
        ("position", pa.int64()),
    ]
)


@pytest.fixture(scope="module")
def versions() -> Iterator[Query]:
    """Rows of a query over `staged`: the versions that landed rows make."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")

        def query(rows: list[dict[str, Any]], wanted: str = "SELECT * FROM staged") -> list[dict[str, Any]]:
            connection.register("landed", pa.Table.from_pylist(rows, schema=LANDED))
            connection.execute(f"CREATE OR REPLACE TEMP TABLE staged AS {versions_sql(SPEC, 'landed')}")
            return connection.sql(wanted).to_arrow_table().to_pylist()

        yield query


def at(hours: int) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


@st.composite
def landed_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of some files: an id has one event time, and any amounts and created times."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 3),  # id, and with it the event time
                st.sampled_from([1.0, 2.0, 3.0]),
                st.sampled_from([None, "x"]),
                st.integers(0, 60),  # created, in hours
                st.integers(0, 3),  # landing order
            ),
            max_size=14,
        )
    )
    return [
        {
            "id": id,
            "event_timestamp": at(20 * id),
            "amount": amount,
            "note": note,
            "created_timestamp": at(20 * id + created),
            "partition_date": at(20 * id).date(),
            "landing_order": order,
            "position": position,
        }
        for position, (id, amount, note, created, order) in enumerate(drawn)
    ]


def naive_versions(landed: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Each id's rows in the order in which they were known; a row that repeats the one before is no version."""
    found = []
    rows = sorted(landed, key=lambda r: (r["id"], r["created_timestamp"], r["landing_order"], r["position"]))
    for _, versions in groupby(rows, key=lambda row: row["id"]):
        before = None
        for row in versions:
            content = (row["event_timestamp"], row["amount"], row["note"])
            if content != before:
                found.append(tuple(row[name] for name in columns_of(SPEC)))
            before = content
    return found


def naive_latest(versions: list[tuple[Any, ...]], known_by: dt.datetime | None) -> set[tuple[Any, ...]]:
    """The newest version of each id that was known by a time, by default by the end of its event's day."""
    latest: dict[int, tuple[Any, ...]] = {}
    for version in versions:
        id, event, created = version[0], version[1], version[-1]
        end_of_day = dt.datetime.combine(event.date() + dt.timedelta(days=1), dt.time(), tzinfo=dt.UTC)
        if created <= (known_by or end_of_day):
            latest[id] = version
    return set(latest.values())


def values(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in columns_of(SPEC))


@given(landed_rows())
def test_versions_are_those_of_a_naive_reading(versions: Query, landed: list[dict[str, Any]]) -> None:
    found = versions(landed)
    by_day = [(row["partition_date"], row["id"], row["created_timestamp"]) for row in found]
    assert by_day == sorted(by_day), "in the order that the content hash wants"
    by_id = sorted(found, key=lambda row: (row["id"], row["created_timestamp"]))
    assert [values(row) for row in by_id] == naive_versions(landed)


@given(landed_rows())
def test_where_late_data_restates_an_event_has_its_last_content_as_if_known_in_time(
    landed: list[dict[str, Any]],
) -> None:
    spec = payments(late_data="restate", arrival="1h")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("landed", pa.Table.from_pylist(landed, schema=LANDED))
        found = connection.sql(versions_sql(spec, "landed")).to_arrow_table().to_pylist()
    last = {version[0]: version[:-1] for version in naive_versions(landed)}
    assert {row["id"]: values(row)[:-1] for row in found} == last and len(found) == len(last)
    assert all(row["created_timestamp"] - row["event_timestamp"] == dt.timedelta(hours=1) for row in found)
    by_day = [(row["partition_date"], row["id"]) for row in found]
    assert by_day == sorted(by_day), "in the order that the content hash wants"


def one_content_each(rows: list[dict[str, Any]]) -> bool:
    return len({(row["id"], row["created_timestamp"]) for row in rows}) == len(rows)


@given(landed_rows().filter(one_content_each), st.none() | st.integers(0, 130).map(at))
def test_the_latest_version_known_by_a_time_is_that_of_a_naive_reading(
    versions: Query, landed: list[dict[str, Any]], known_by: dt.datetime | None
) -> None:
    query = latest_versions_sql(SPEC, "staged", known_by=known_by.isoformat() if known_by else None)
    found = [values(row) for row in versions(landed, query)]
    assert len(found) == len(set(found)) and set(found) == naive_latest(naive_versions(landed), known_by)


def landed_versions(source: Deliveries) -> list[tuple[Any, ...]]:
    """The versions that everything landed so far makes, as materializing would stage them."""
    with connect(source.settings) as connection:
        stage_versions(connection, source.lake, source.spec, (DAY, "2018-04-30"))
        query = "SELECT id, amount, created_timestamp FROM staged ORDER BY id, created_timestamp"
        return [
            (id, amount, known.date().isoformat())
            for id, amount, known in connection.execute(query).fetchall()
        ]


def test_a_correction_known_later_becomes_a_version_and_the_first_one_stays(home: Settings) -> None:
    source = Deliveries(home)
    source.land([payment(1, amount=5), payment(2, amount=5)])
    source.land([payment(1, amount=7)], known_at="2018-04-20T00:00:00Z")
    assert landed_versions(source) == [(1, 5.0, DAY), (1, 7.0, "2018-04-20"), (2, 5.0, DAY)]


def test_a_correction_that_says_the_same_is_no_version_and_one_taken_back_is(home: Settings) -> None:
    source = Deliveries(home)
    source.land([payment(1, amount=5)])
    source.land(csv("1,2018-04-01T10:00:00,5,"), known_at="2018-04-19")
    source.land([payment(1, amount=7)], known_at="2018-04-20")
    source.land([payment(1, amount=5)] * 2, known_at="2018-04-21")
    assert landed_versions(source) == [(1, 5.0, DAY), (1, 7.0, "2018-04-20"), (1, 5.0, "2018-04-21")]


def test_corrections_may_land_in_any_order(home: Settings) -> None:
    source = Deliveries(home)
    source.land([payment(1, amount=8)], known_at="2018-04-22")
    source.land([payment(1, amount=7)], known_at="2018-04-20")
    source.land([payment(1, amount=5)])
    assert landed_versions(source) == [(1, 5.0, DAY), (1, 7.0, "2018-04-20"), (1, 8.0, "2018-04-22")]


def test_where_late_data_restates_another_content_of_the_same_created_time_replaces_in_landing_order(
    home: Settings,
) -> None:
    source = Deliveries(home, payments(late_data="restate"))
    source.land([payment(1, amount=5), payment(2, amount=5)])
    source.land([payment(1, amount=7)])
    source.land([payment(2, amount=9)], known_at="2018-04-20")
    source.land([payment(2, amount=8)], known_at="2018-04-19")
    assert landed_versions(source) == [(1, 7.0, DAY), (2, 9.0, DAY)]
    with pytest.raises(InputError, match="one content per"):
        source.land([payment(1, amount=1), payment(1, amount=2)])
    with pytest.raises(InputError, match="rows move their event"):
        source.land([payment(1, "2018-04-01T11:00:00")])


def test_files_may_carry_the_created_time_themselves(home: Settings) -> None:
    columns = payments().model_dump(by_alias=True)["columns"]
    source = Deliveries(
        home, payments(columns={**columns, "created_timestamp": {"type": "timestamp", "from": "known"}})
    )
    known = pa.array([at(24), at(48), at(72)], pa.timestamp("us"))
    rows = [payment(1, amount=amount) for amount in (5, 7, 7)]
    source.land(pa.Table.from_pylist(rows, schema=SCHEMA).append_column("known", known))
    assert landed_versions(source) == [(1, 5.0, "2018-04-02"), (1, 7.0, "2018-04-03")]


def test_a_file_takes_the_place_of_another_and_may_say_what_that_one_could_not(home: Settings) -> None:
    source = Deliveries(home)
    wrong = source.land([payment(1, amount=5), payment(3, amount=9)])
    right = source.land([payment(1, "2018-04-01T12:00:00", amount=6)], replaces=wrong.digest[:10])
    assert landed_versions(source) == [(1, 6.0, DAY)]
    assert not right.unchanged
    assert len(rows_of(source.lake.table("landing/payments"))) == 3, "what was replaced stays for inspection"


def test_a_replaced_file_can_be_put_back(home: Settings) -> None:
    source = Deliveries(home)
    first = source.land([payment(1, amount=5)])
    second = source.land([payment(1, amount=6)], replaces=first.digest)
    assert source.land([payment(1, amount=5)]).unchanged, "the same bytes alone change nothing"
    assert landed_versions(source) == [(1, 6.0, DAY)]
    assert not source.land([payment(1, amount=5)], replaces=second.digest).unchanged
    assert landed_versions(source) == [(1, 5.0, DAY)]


def test_a_file_that_has_landed_can_still_take_the_place_of_another(home: Settings) -> None:
    source = Deliveries(home)
    source.land([payment(1)])
    stray = source.land([payment(2)])
    assert not source.land([payment(1)], replaces=stray.digest).unchanged
    assert landed_versions(source) == [(1, 5.0, DAY)]
    assert source.land([payment(1)], replaces=stray.digest).unchanged, "done already"


def test_a_file_that_would_take_its_own_place_changes_nothing(home: Settings) -> None:
    source = Deliveries(home)
    landed = source.land([payment(1)])
    assert source.land([payment(1)], replaces=landed.digest).unchanged
    assert landed_versions(source) == [(1, 5.0, DAY)]
