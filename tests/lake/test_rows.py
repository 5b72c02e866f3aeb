"""Rows that are read more than once: from their start, in their order, a partition at a time."""

import datetime as dt
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from ml_platform.kernel.errors import StoreError
from ml_platform.lake.content_hash import partition_hashes
from ml_platform.lake.rows import by_partition, of_partitions, stream

FIRST = dt.date(2018, 6, 1)
DAYS, ROWS_A_DAY = 30, 20_000
KEYS = [str(FIRST + dt.timedelta(days=number)) for number in range(DAYS)]


@pytest.fixture
def staged() -> Iterator[duckdb.DuckDBPyRelation]:
    """Days whose rows are in more than one batch, ordered by day and id."""
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE TEMP TABLE staged AS SELECT i AS id, sin(i) AS amount, 'row ' || i AS text, "
            f"DATE '{FIRST}' + CAST(i // {ROWS_A_DAY} AS INT) AS partition_date "
            f"FROM range({DAYS * ROWS_A_DAY}) t(i) ORDER BY partition_date, id"
        )
        yield connection.sql("FROM staged")


def test_partitions_have_the_rows_and_hashes_that_they_have_in_one_table(
    staged: duckdb.DuckDBPyRelation,
) -> None:
    table = staged.to_arrow_table().combine_chunks()
    found = {key: (part.num_rows, digest) for key, part, digest in partition_hashes(staged, "partition_date")}
    whole = {key: (part.num_rows, digest) for key, part, digest in partition_hashes(table, "partition_date")}
    assert list(found) == KEYS and found == whole
    batches = [batch.num_rows for batch in stream(staged)]
    assert 1 < len(batches) < DAYS, "some batch has a part of a day, and some day is in two batches"


def test_a_partition_in_many_batches_is_one(staged: duckdb.DuckDBPyRelation) -> None:
    rows = staged.limit(3 * ROWS_A_DAY).to_arrow_table()
    pieces = pa.concat_tables([rows.slice(start, 7_000) for start in range(0, rows.num_rows, 7_000)])
    assert [key for key, _ in by_partition(pieces, "partition_date")] == KEYS[:3]
    assert pa.concat_tables([part for _, part in by_partition(pieces, "partition_date")]).equals(rows)


def test_days_with_gaps_come_whole_and_in_their_order(staged: duckdb.DuckDBPyRelation) -> None:
    wanted = [*KEYS[::2], KEYS[5]]
    found = of_partitions(staged, wanted).to_arrow_table()
    days = sorted((dt.date.fromisoformat(key) - FIRST).days for key in wanted)
    expected = [id_ for day in days for id_ in range(day * ROWS_A_DAY, (day + 1) * ROWS_A_DAY)]
    assert found.column("id").to_pylist() == expected


def test_rows_start_anew_whenever_they_are_read(staged: duckdb.DuckDBPyRelation) -> None:
    assert stream(staged).read_next_batch().column("id")[0].as_py() == 0
    first, again = stream(staged).read_all(), stream(staged).read_all()
    assert first.num_rows == DAYS * ROWS_A_DAY and first.equals(again)


def test_rows_without_any_have_columns_and_no_partition(staged: duckdb.DuckDBPyRelation) -> None:
    none = of_partitions(staged, ["2019-01-01"])
    assert stream(none).schema.names == ["id", "amount", "text", "partition_date"]
    assert list(by_partition(none, "partition_date")) == []


def test_a_partition_that_comes_in_two_places_is_refused() -> None:
    rows = pa.table({"x": [1, 2, 3], "partition_date": [FIRST, FIRST + dt.timedelta(days=1), FIRST]})
    with pytest.raises(StoreError, match="ordered by partition_date are required; 2018-06-01 comes"):
        list(by_partition(rows, "partition_date"))
