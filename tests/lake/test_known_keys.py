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
from ml_platform.lake.engine import small_answer
from ml_platform.lake.kept_keys import keys_of
from ml_platform.lake.known_keys import first_rows, key_history
from ml_platform.lake.tables import Lake

START = dt.datetime(2018, 6, 1, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
DAYS = 5
Row = tuple[str | None, str | None, dt.datetime, dt.datetime]
Key = tuple[str | None, ...]
SCHEMA = pa.schema(
    [
        ("who", pa.string()),
        ("kind", pa.string()),
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("created_timestamp", pa.timestamp("us", "UTC")),
        ("partition_date", pa.date32()),
    ]
)
HOURLY_SCHEMA = pa.schema([*list(SCHEMA)[:-1], ("partition_hour", pa.string())])

hours = st.integers(0, DAYS * 24 - 1)
rows = st.lists(
    st.builds(
        lambda who, kind, hour, late: (who, kind, START + hour * HOUR, START + (hour + late) * HOUR),
        st.sampled_from(["ada", "eve", "bob", None]),
        st.sampled_from(["x", "x", "y", None]),
        hours | hours.map(lambda hour: hour + 0.5),
        st.sampled_from([0, 0, 0, 1, 5, 24, 48, -1, -30]),
    ),
    min_size=1,
    max_size=12,
)


def naive(found: Sequence[Row], period: dt.timedelta, *, columns: int) -> dict[Key, dt.datetime]:
    """Each key's first end of a period after one of its events at or after which that was known."""
    since: dict[Key, dt.datetime] = {}
    ends = [START + n * period for n in range(1, (DAYS + 4) * DAY // period)]
    for *ids, event, created in found:
        key = tuple(ids[:columns])
        if None not in key:
            mine = next(end for end in ends if event < end and created <= end)
            since[key] = min(mine, since.get(key, mine))
    return since


def end_of(time: dt.datetime, period: dt.timedelta) -> dt.datetime:
    """The time, or the first end of a period after it."""
    return START - (START - time) // period * period


def test_a_kept_history_is_given_until_the_table_is_another(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    table = lake.table("sources/toy")

    def add(who: str) -> None:
        row = (who, "x", START, START, START.date())
        rows = [dict(zip(SCHEMA.names, row, strict=True))]
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
@given(found=rows, one=hours, other=hours, later=st.integers(0, 1), columns=st.integers(1, 2))
@example(
    found=[("ada", "x", START, START + DAY), ("eve", "x", START + 23 * HOUR, START + DAY)],
    one=0,
    other=24,
    later=0,
    columns=1,
)
def test_keys_are_those_of_a_naive_reading_and_a_range_tells_what_all_history_does(
    cadence: Cadence, schema: pa.Schema, found: list[Row], one: int, other: int, later: int, columns: int
) -> None:
    names = schema.names[:columns]
    start = cadence.key(START + later * DAY)
    keys = cadence.key(START + min(one, other) * HOUR), cadence.key(START + max(one, other) * HOUR)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table = Lake(folder).table("sources/toy")
        of_row = [row[2].date() if cadence == DAILY else cadence.key(row[2]) for row in found]
        dated = [
            dict(zip(schema.names, (*row, mine), strict=True))
            for row, mine in zip(found, of_row, strict=True)
        ]
        table.append(pa.Table.from_pylist(dated, schema), partition_by=[cadence.column])
        every, ranged = first_rows(table.at(), names, start), first_rows(table.at(), names, start, keys)
        since = {tuple(key): created for *key, _, created in connection.execute(f"FROM ({every})").fetchall()}
        known = connection.execute(f"FROM ({ranged})").fetchall()
        whole, part = (
            key_history(lambda query: connection.execute(query).fetchall(), found, names, cadence)
            for found in (every, ranged)
        )
    expected = naive([row for row in found if cadence.key(row[2]) >= start], cadence.period, columns=columns)
    assert {key: end_of(time, cadence.period) for key, time in since.items()} == expected
    assert all(event < created for *_, event, created in known)
    for end in map(complete_at, key_range(*keys)):
        there = {tuple(key) for *key, _, created in known if created <= end}
        assert there == {key for key, time in expected.items() if time <= end}
        told = [[digest for when, digest in told if when <= cadence.key(end)] for told in (whole, part)]
        assert told[0][-1:] == told[1][-1:]


def test_keys_of_several_columns_that_read_alike_in_a_row_are_told_apart() -> None:
    def digest(*key: str) -> str:
        values = ", ".join(f"'{value}' AS c{i}" for i, value in enumerate(key))
        rows = f"SELECT {values}, TIMESTAMPTZ '2018-06-01 00:00Z' AS created_timestamp"
        columns = [f"c{i}" for i in range(len(key))]
        ((_, found),) = key_history(small_answer, rows, columns, DAILY)
        return found

    assert (
        len({digest("ab", "c"), digest("a", "bc"), digest("", "abc"), digest("abc", ""), digest("abc")}) == 5
    )
