"""Keys of a table and since when they are known, against a naive reading of its rows."""

import datetime as dt
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_platform.kernel.partitions import DAILY, key_of
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

hours = st.integers(0, DAYS * 24 - 1)
rows = st.lists(
    st.builds(
        lambda who, hour, late: (who, START + hour * HOUR, START + (hour + late) * HOUR),
        st.sampled_from(["ada", "eve", "bob", None]),
        hours,
        st.sampled_from([0, 0, 0, 1, 5, 24, 48, -1, -30]),
    ),
    min_size=1,
    max_size=12,
)


def naive(found: Sequence[Row]) -> dict[str, dt.datetime]:
    """Each key's first midnight after one of its events at or after which that was known."""
    since: dict[str, dt.datetime] = {}
    midnights = [START + n * DAY for n in range(1, DAYS + 4)]
    for who, event, created in found:
        if who is not None:
            mine = next(midnight for midnight in midnights if event < midnight and created <= midnight)
            since[who] = min(mine, since.get(who, mine))
    return since


def midnight_of(time: dt.datetime) -> dt.datetime:
    """The time, or the first midnight after it."""
    return START - (START - time) // DAY * DAY


def test_a_kept_history_is_given_until_the_table_is_another(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    table = lake.table("sources/toy")

    def add(who: str) -> None:
        rows = [
            {"who": who, "event_timestamp": START, "created_timestamp": START, "partition_date": START.date()}
        ]
        table.append(pa.Table.from_pylist(rows, SCHEMA), partition_by=["partition_date"])

    add("ada")
    one = keys_of(lake, "sources/toy", "who", key_of(START.date()))
    kept = tmp_path / "known_keys/sources/toy/who.json"
    kept.write_text(kept.read_text().replace(one[-1][1], "told by the document"))
    assert keys_of(lake, "sources/toy", "who", key_of(START.date()))[-1][1] == "told by the document"
    add("eve")
    two = keys_of(lake, "sources/toy", "who", key_of(START.date()))
    assert two[-1][1] not in (one[-1][1], "told by the document")
    shutil.rmtree(table.uri)
    add("ada")
    add("bob")
    assert keys_of(lake, "sources/toy", "who", key_of(START.date()))[-1][1] != two[-1][1], (
        "another table of the same version"
    )
    kept.write_text("{cut off")
    assert keys_of(lake, "sources/toy", "who", "2018-01-01")


@settings(max_examples=40)
@given(rows, st.integers(0, DAYS - 1), st.integers(0, DAYS - 1), st.integers(0, 1))
@example([("ada", START, START + DAY), ("eve", START + 23 * HOUR, START + DAY)], 0, 1, 0)
def test_keys_are_those_of_a_naive_reading_and_a_range_tells_what_all_history_does(
    found: list[Row], one: int, other: int, later: int
) -> None:
    first, last = sorted((one, other))
    start = key_of((START + later * DAY).date())
    days = (key_of((START + first * DAY).date()), key_of((START + last * DAY).date()))
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table = Lake(folder).table("sources/toy")
        dated = [dict(zip(SCHEMA.names, (*row, row[1].date()), strict=True)) for row in found]
        table.append(pa.Table.from_pylist(dated, SCHEMA), partition_by=["partition_date"])
        every, ranged = first_rows(table.at(), "who", start), first_rows(table.at(), "who", start, days)
        since = dict(connection.execute(f"SELECT who, created_timestamp FROM ({every})").fetchall())
        known = connection.execute(f"FROM ({ranged})").fetchall()
        whole, part = (
            key_history(lambda query: connection.execute(query).fetchall(), keys, "who", DAILY)
            for keys in (every, ranged)
        )
    expected = naive([row for row in found if key_of(row[1].date()) >= start])
    assert {who: midnight_of(time) for who, time in since.items()} == expected
    ends = [START + (n + 1) * DAY for n in range(first, last + 1)]
    assert all(event < created for _, event, created in known)
    for midnight in ends:
        there = {who for who, _, created in known if created <= midnight}
        assert there == {who for who, time in expected.items() if time <= midnight}
        told = [[digest for when, digest in told if when <= midnight.date()] for told in (whole, part)]
        assert told[0][-1:] == told[1][-1:]
