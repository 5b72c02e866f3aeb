"""What was known of a published day at a midnight, against a naive reading, and what of it a partition reads."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.lineage import Lineage, Node, Upstream
from ml_platform.kernel.partitions import DAILY, HOURLY, cadence_of
from ml_platform.lake import ledger
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.inputs import Inputs, as_known, equal_lag, known_history
from ml_platform.lake.ledger import Publication, publish_partitions, published
from ml_platform.lake.tables import Lake

A, B, C = (dt.date(2018, 6, day) for day in (1, 2, 3))
START = dt.datetime(2018, 6, 1, tzinfo=dt.UTC)
SCHEMA = pa.schema(
    [("id", pa.int64()), ("created_timestamp", pa.timestamp("us", "UTC")), ("who", pa.string())]
)


def versions(*rows: tuple[int, dt.datetime, str | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def publication(rows: pa.Table, asset: str = "sources/toy", partition: str = "2018-06-01") -> Publication:
    return Publication(
        asset,
        partition,
        content_hash(rows),
        rows.num_rows,
        0,
        "declared",
        "run",
        known=known_history(rows, cadence_of(partition)),
    )


@pytest.mark.parametrize("partition", ["2018-06-01", "2018-06-01-13:00"])
@given(st.lists(st.integers(0, 24 * 5 * 2), max_size=6), st.integers(0, 8 * 24))
def test_the_hash_at_an_end_is_that_of_the_versions_known_by_then(
    partition: str, half_hours: list[int], hours: int
) -> None:
    """An hour that reads a day counts what was known by the end of that day: never less than it saw."""
    created = [START + dt.timedelta(minutes=30 * n) for n in half_hours]
    rows = versions(*((i, time, "ada") for i, time in enumerate(created)))
    time = START + dt.timedelta(hours=hours)
    end = time if cadence_of(partition) == HOURLY else START + dt.timedelta(days=-(-hours // 24))
    known = versions(*((i, time, "ada") for i, time in enumerate(created) if time <= end))
    found = as_known(publication(rows, partition=partition), time)
    if rows.num_rows and known.num_rows == 0:
        assert found == "nothing"
    else:
        assert found == content_hash(known if rows.num_rows else rows)


def test_a_day_whose_rows_were_known_in_time_has_one_midnight() -> None:
    rows = versions((1, START, "ada"), (2, START + dt.timedelta(hours=23), "ada"))
    assert known_history(rows.slice(1), DAILY) == {"2018-06-02": content_hash(rows.slice(1))}
    assert list(known_history(rows, HOURLY)) == ["2018-06-01-00:00", "2018-06-01-23:00"]
    assert list(known_history(rows, DAILY)) == ["2018-06-01", "2018-06-02"], (
        "what happened at midnight is known at midnight"
    )


def test_times_that_no_calendar_has_are_midnights_too() -> None:
    far = pa.table({"created_timestamp": pa.array([-(2**62), 2**62], pa.timestamp("us", "UTC"))})
    assert list(known_history(far, DAILY)) == ["0001-01-01", "9999-12-31"]


def published_at(
    lake: Lake,
    asset: str,
    day: dt.date,
    *rows: tuple[int, dt.datetime, str | None],
    after: dt.timedelta | None = None,
) -> None:
    """Publish versions of one day; with `after`, of events that happened so long before they were known."""
    found = versions(*rows)
    told = publication(found, asset, day.isoformat())
    if after is not None:
        events = happened(found, *(created - after for _, created, _ in rows))
        told = replace(told, lag=equal_lag(events) if rows else None)
    found = found if after is not None else happened(found, *(created for _, created, _ in rows))
    dated = found.append_column("partition_date", pa.array([day] * found.num_rows, pa.date32()))
    publish_partitions(lake, dated, [told])


def happened(rows: pa.Table, *times: dt.datetime) -> pa.Table:
    """The rows as versions of events of some times, or of one."""
    events = times if len(times) == rows.num_rows else times * rows.num_rows
    return rows.append_column("event_timestamp", pa.array(events, pa.timestamp("us", "UTC")))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_values_of_a_key_count_from_when_they_were_first_known_wherever_that_was(lake: Lake) -> None:
    reads = Upstream("sources/toy", keys=("who",))
    nodes = [Node("sources/toy", A, C), Node("views/keys", A, C, upstream=(reads,))]
    lineage = Lineage({node.key: node for node in nodes})

    def digests() -> list[str]:
        return list(Inputs.now(lake, lineage).digests("views/keys", ("2018-06-02", "2018-06-03")).values())

    hour = dt.timedelta(hours=1)
    published_at(lake, "sources/toy", A, (1, START, "ada"), (2, START, None))
    published_at(lake, "sources/toy", B, (3, START + 30 * hour, "ada"))
    before = digests()
    published_at(lake, "sources/toy", A, (1, START, "ada"), (2, START, "ada"))
    assert digests() == before, "a value that was known"
    published_at(lake, "sources/toy", A, (1, START, "ada"), (2, START, "ada"), (4, START + 50 * hour, "eve"))
    assert [new == old for new, old in zip(digests(), before, strict=True)] == [True, False]


def test_a_lag_is_told_only_where_it_is_that_of_every_row_and_of_what_is_read(lake: Lake) -> None:
    day, hour = ("2018-06-01", "2018-06-02"), dt.timedelta(hours=1)
    published_at(lake, "sources/toy", A, (1, START, "ada"), (2, START + hour, "eve"), after=2 * hour)
    published_at(lake, "sources/toy", B, after=hour)
    inputs = Inputs.now(lake, Lineage({"sources/toy": Node("sources/toy", A, C)}))
    assert inputs.lags("sources/toy", 2, day) == {7_200_000_000}, "a day without rows has none"
    assert inputs.lags("sources/toy", 3, day) == {None}, "of another version of the table"
    assert inputs.lags("sources/other", 0, day) == {None}
    two = versions((1, START, "ada"), (1, START + hour, "ada"))
    assert equal_lag(happened(two, START)) is None, "two versions of one event"


def test_entries_from_before_there_were_columns_for_it_are_read(lake: Lake) -> None:
    columns = {
        name: kind
        for name, kind in ledger._PUBLICATIONS.columns.items()
        if name not in ("known", "inputs", "lag", "events")
    }
    old = {
        "asset": "sources/toy",
        "partition": "2018-06-01",
        "content_hash": "old",
        "rows": 1,
        "table_version": -1,
    }
    ledger.Ledger("publications", columns).append(lake, [{**old, "declaration": "declared", "run_id": "run"}])
    published_at(lake, "sources/toy", B, (1, START, "ada"))
    found = published(lake, "sources/toy")
    assert (found["2018-06-01"].known, found["2018-06-01"].inputs) == ({}, "")
    assert as_known(found["2018-06-01"], START) == "old"
    assert list(found["2018-06-02"].known) == ["2018-06-01"]
