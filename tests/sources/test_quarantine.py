"""Bad rows of a file that was taken: kept apart with reason, file and position, while the good rows go on."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.kernel.settings import Settings
from tests.sources.deliveries import DAY, SCHEMA, Deliveries, csv, payment, payments


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


BAD_LINES = {
    "8,,5,": "event_timestamp is missing or cannot be read",
    "8,soon,5,": "event_timestamp is missing or cannot be read",
    "8,infinity,5,": "event_timestamp is missing or cannot be read",
    "8,12018-04-01,5,": "event_timestamp is missing or cannot be read",
    ",2018-04-01,5,": "id is missing or cannot be read",
    "8.5,2018-04-01,5,": "id is missing or cannot be read",
    "0x8,2018-04-01,5,": "id is missing or cannot be read",
    "99999999999999999999,2018-04-01,5,": "id is missing or cannot be read",
    "8,2018-04-01,,": "amount is missing or cannot be read",
    "8,2018-04-01,five,": "amount is missing or cannot be read",
    "8,2018-04-01,nan,": "amount is missing or cannot be read",
    "8,2018-04-01,-0.01,": "amount below 0",
    "8,2018-03-31 23:59:59.999999,5,": "event outside the source's declared range from 2018-04-01 to 2018-04-30",
    "8,2018-05-01,5,": "event outside the source's declared range from 2018-04-01 to 2018-04-30",
    "8,9999-12-31,5,": "event outside the source's declared range from 2018-04-01 to 2018-04-30",
    "8,0001-01-01,-5,": "amount below 0; event outside the source's declared range from 2018-04-01 to 2018-04-30",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_row_is_kept_with_reason_file_and_position_and_the_good_ones_go_on(
    source: Deliveries, line: str
) -> None:
    landed = source.land(csv("1,2018-04-01,5,", line, "2,2018-04-30T23:59:59.999999,5,"))
    assert (landed.rows, landed.quarantined, landed.days) == (3, 1, (DAY, "2018-04-30"))
    [bad] = source.quarantined()
    assert (bad["reason"], bad["file_digest"], bad["position"]) == (BAD_LINES[line], landed.digest, 1)
    assert [row["id"] for row in source.landed()] == [1, 2]


def test_bad_rows_of_parquet_files_are_kept_as_well(source: Deliveries) -> None:
    rows = [
        payment(1),
        payment(2, amount=float("nan")),
        payment(3, "9999-12-31T00:00:00"),
        {**payment(4), "paid_at": None},
    ]
    source.spec = payments(max_bad_share=1)
    assert source.land(rows).quarantined == 3
    assert [(row["position"], row["reason"].split(" ")[0]) for row in sorted_by_position(source)] == [
        (1, "amount"),
        (2, "event"),
        (3, "event_timestamp"),
    ]


def sorted_by_position(source: Deliveries) -> list[dict[str, Any]]:
    return sorted(source.quarantined(), key=lambda row: row["position"])


def test_a_nullable_column_that_cannot_be_read_is_not_taken_for_null(source: Deliveries) -> None:
    columns = payments().model_dump(by_alias=True)["columns"]
    source.spec = payments(
        columns={
            **columns,
            "score": {"type": "double", "nullable": True, "from": "note"},
            "note": {"type": "string", "nullable": True, "from": "note"},
        }
    )
    source.land(csv("1,2018-04-01,5,", "2,2018-04-01,5,high", "3,2018-04-01,5,0.5", "4,2018-04-01,5,nan"))
    assert [(row["id"], row["score"]) for row in source.landed()] == [(1, None), (3, 0.5), (4, None)]
    assert [row["reason"] for row in source.quarantined()] == ["score cannot be read"]


def test_a_row_without_a_created_time_is_bad_even_where_the_column_may_be_null(home: Settings) -> None:
    columns = payments().model_dump(by_alias=True)["columns"]
    columns["created_timestamp"] = {"type": "timestamp", "nullable": True, "from": "known"}
    source = Deliveries(home, payments(columns=columns))
    table = pa.Table.from_pylist([payment(1), payment(2)], schema=SCHEMA)
    known = pa.array([utc("2018-04-03"), None], pa.timestamp("us"))
    assert source.land(table.append_column("known", known)).quarantined == 1
    assert [row["created_timestamp"] for row in source.landed()] == [utc("2018-04-03T00:00:00")]
    assert source.quarantined()[0]["reason"] == "created_timestamp is missing or cannot be read"
