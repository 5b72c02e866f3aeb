"""Keys of a table and since when they are known, against a naive reading of its rows."""

import datetime as dt
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_platform.kernel.partitions import DAILY, HOURLY, Cadence, complete_at, key_of, key_range
from ml_platform.lake.kept_keys import keys_of
from ml_platform.lake.known_keys import first_rows, key_history
from ml_platform.lake.tables import Lake

START = dt.datetime(2018, 6, 1, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
DAYS = 5
Row = tuple[str | None, dt.datetime, dt.datetime]
SCHEMA = pa.schema(
    [
        ("who", pa.string()),
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("created_timestamp", pa.timestamp("us", "UTC")),
        ("partition_date", pa.date32()),
    ]
)
HOURLY_SCHEMA = pa.schema([*list(SCHEMA)[:-1], ("partition_hour", pa.string())])

hours = st.integers(0, DAYS * 24 - 1)
rows = st.lists(
    st.builds(
        lambda who, hour, late: (who, START + hour * HOUR, START + (hour + late) * HOUR),
        st.sampled_from(["ada", "eve", "bob", None]),
        hours | hours.map(lambda hour: hour + 0.5),
        st.sampled_from([0, 0, 0, 1, 5, 24, 48, -1, -30]),
    ),
    min_size=1,
    max_size=12,
)


def naive(found: Sequence[Row], period: dt.timedelta) -> dict[str, dt.datetime]:
    """Each key's first end of a period after one of its events at or after which that was known."""
    since: dict[str, dt.datetime] = {}
    ends = [START + n * period for n in range(1, (DAYS + 4) * DAY // period)]
    for who, event, created in found:
        if who is not None:
            mine = next(end for end in ends if event < end and created <= end)
            since[who] = min(mine, since.get(who, mine))
    return since


def end_of(time: dt.datetime, period: dt.timedelta) -> dt.datetime:
    """The time, or the first end of a period after it."""
    return START - (START - time) // period * period


def test_a_kept_history_is_given_until_the_table_is_another(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    table = lake.table("sources/toy")

    def add(who: str) -> None:
        rows = [
            {"who": who, "event_timestamp": START, "created_timestamp": START, "partition_date": START.date()}
        ]
        table.append(pa.Table.from_pylist(rows, SCHEMA), partition_by=["partition_date"])

    add("ada")
    one = keys_of(lake, "sources/toy", ["who"], key_of(START.date()))
    kept = tmp_path / "known_keys/sources/toy/who.json"
    kept.write_text(kept.read_text().replace(one[-1][1], "told by the document"))
    assert keys_of(lake, "sources/toy", ["who"], key_of(START.date()))[-1][1] == "told by the document"
    add("eve")
    two = keys_of(lake, "sources/toy", ["who"], key_of(START.date()))
    assert two[-1][1] not in (one[-1][1], "told by the document")
    shutil.rmtree(table.uri)
    add("ada")
    add("bob")
    assert keys_of(lake, "sources/toy", ["who"], key_of(START.date()))[-1][1] != two[-1][1], (
        "another table of the same version"
    )
    kept.write_text("{cut off")
    assert keys_of(lake, "sources/toy", ["who"], "2018-01-01")


@pytest.mark.parametrize(
    ("cadence", "schema"), [(DAILY, SCHEMA), (HOURLY, HOURLY_SCHEMA)], ids=["days", "hours"]
)
@settings(max_examples=40)
@given(found=rows, one=hours, other=hours, later=st.integers(0, 1))
@example(
    found=[("ada", START, START + DAY), ("eve", START + 23 * HOUR, START + DAY)], one=0, other=24, later=0
)
def test_keys_are_those_of_a_naive_reading_and_a_range_tells_what_all_history_does(
    cadence: Cadence, schema: pa.Schema, found: list[Row], one: int, other: int, later: int
) -> None:
    start = cadence.key(START + later * DAY)
    keys = cadence.key(START + min(one, other) * HOUR), cadence.key(START + max(one, other) * HOUR)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table = Lake(folder).table("sources/toy")
        of_row = [row[1].date() if cadence == DAILY else cadence.key(row[1]) for row in found]
        dated = [
            dict(zip(schema.names, (*row, mine), strict=True))
            for row, mine in zip(found, of_row, strict=True)
        ]
        table.append(pa.Table.from_pylist(dated, schema), partition_by=[cadence.column])
        every, ranged = first_rows(table.at(), ["who"], start), first_rows(table.at(), ["who"], start, keys)
        since = dict(connection.execute(f"SELECT who, created_timestamp FROM ({every})").fetchall())
        known = connection.execute(f"FROM ({ranged})").fetchall()
        whole, part = (
            key_history(lambda query: connection.execute(query).fetchall(), found, ["who"], cadence)
            for found in (every, ranged)
        )
    expected = naive([row for row in found if cadence.key(row[1]) >= start], cadence.period)
    assert {who: end_of(time, cadence.period) for who, time in since.items()} == expected
    assert all(event < created for _, event, created in known)
    for end in map(complete_at, key_range(*keys)):
        there = {who for who, _, created in known if created <= end}
        assert there == {who for who, time in expected.items() if time <= end}
        told = [[digest for when, digest in told if when <= cadence.key(end)] for told in (whole, part)]
        assert told[0][-1:] == told[1][-1:]
