"""What a taken file leaves behind: typed rows by day, bad rows with reason and position, an entry in the ledger."""

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.kernel.settings import Settings
from ml_platform.sources.landing import expand, ingest
from ml_platform.sources.spec import SourceSpec
from ml_platform.sources.store import LANDED_FILES, landed_days
from tests.sources.deliveries import (
    DAY,
    NEXT_DAY,
    SCHEMA,
    Deliveries,
    csv,
    everything,
    payment,
    payments,
)
from tests.support import of_fraud

HANDBOOK = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("tx_datetime", pa.timestamp("us")),
        ("customer_id", pa.int64()),
        ("terminal_id", pa.int64()),
        ("tx_amount", pa.float64()),
        ("tx_time_seconds", pa.int64()),
        ("tx_time_days", pa.int64()),
        ("tx_fraud", pa.int64()),
        ("tx_fraud_scenario", pa.int64()),
    ]
)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def with_times(kind: pa.DataType, *times: Any) -> pa.Table:
    """A delivered table whose event times come in some Arrow type."""
    ids, amounts = list(range(len(times))), [1.0] * len(times)
    columns = {"id": ids, "paid_at": pa.array(times, kind), "amount": amounts}
    return pa.table({**columns, "note": pa.nulls(len(times), pa.string())})


def event_times(source: Deliveries) -> list[dt.datetime]:
    return [row["event_timestamp"] for row in source.landed()]


def test_rows_land_typed_by_day_with_file_and_position(source: Deliveries) -> None:
    landed = source.land(
        [payment(7, "2018-04-02T23:59:59.999999", note="x"), payment(3, "2018-04-01T00:00:00")]
    )
    assert (landed.rows, landed.quarantined, landed.days, landed.unchanged) == (2, 0, (DAY, NEXT_DAY), False)
    assert source.landed() == [
        {
            "id": id,
            "event_timestamp": utc(time),
            "amount": 5.0,
            "note": note,
            "created_timestamp": utc(time),
            "partition_date": dt.date.fromisoformat(day),
            "position": position,
            "file_digest": landed.digest,
        }
        for id, time, note, day, position in [
            (3, "2018-04-01T00:00:00", None, DAY, 1),
            (7, "2018-04-02T23:59:59.999999", "x", NEXT_DAY, 0),
        ]
    ]
    assert source.quarantined() == []


def test_the_ledger_says_which_file_with_which_rows_came_from_whom(source: Deliveries) -> None:
    landed = source.land([payment(1), payment(2, amount=-1)], known_at="2018-05-01T02:00:00+02:00")
    [entry] = LANDED_FILES.entries(source.lake)
    del entry["recorded_at"]
    assert entry == {
        "source": "payments",
        "digest": landed.digest,
        "path": str(source.settings.root / "inbox" / "1.parquet"),
        "rows": 2,
        "quarantined": 1,
        "rows_by_day": [1],
        "days": [DAY],
        "known_at": "2018-05-01T00:00:00+00:00",
        "replaces": None,
        "actor": source.settings.who,
    }


def test_parquet_and_csv_of_the_same_rows_land_the_same(home: Settings) -> None:
    rows = [
        payment(1, amount=1.5, note="a, b"),
        payment(2, note=None),
        payment(3, "2018-04-02T00:00:00.000001"),
    ]
    text = csv(
        '1,2018-04-01T10:00:00,1.5,"a, b"',
        "2,2018-04-01 10:00:00Z,5,",
        "3,2018-04-02 02:00:00.000001+02:00,5.0,",
    )
    contents = []
    for content in (rows, text, text.replace("\n", "\r\n"), "\ufeff" + text):
        source = Deliveries(home, payments(name=f"payments{len(contents)}"))
        source.land(content)
        contents.append([{**row, "file_digest": ""} for row in source.landed()])
    assert contents[1:] == contents[:1] * 3


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_csv_file_may_use_another_delimiter(source: Deliveries, delimiter: str) -> None:
    source.land(csv("1,2018-04-01,5,x").replace(",", delimiter))
    assert [(row["id"], row["note"]) for row in source.landed()] == [(1, "x")]


def test_a_csv_file_may_be_compressed(source: Deliveries) -> None:
    source.land(gzip.compress(csv("1,2018-04-01,5,x").encode()), "payments.csv.gz")
    assert [row["id"] for row in source.landed()] == [1]


def test_lines_of_text_are_never_taken_for_comments_quotes_or_headers(source: Deliveries) -> None:
    source.land(
        csv("1,2018-04-01,5,#1", "2,2018-04-01,5,it's", "3,2018-04-01,5,'", '4,2018-04-01,5,"say ""hi"""')
    )
    assert [row["note"] for row in source.landed()] == ["#1", "it's", "'", 'say "hi"']


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("ns"), 1_522_540_800_000_000_001),
        (pa.timestamp("ns"), 1_522_540_800_000_000_999),
        (pa.timestamp("ns", "UTC"), 1_522_540_800_000_000_001),
        (pa.timestamp("ns", "Europe/Berlin"), 1_522_540_800_000_000_001),
        (pa.timestamp("ns", "UTC"), 1_522_540_800_000_001_000),
        (pa.timestamp("us"), 1_522_540_800_000_001),
        (pa.timestamp("us", "Europe/Berlin"), 1_522_540_800_000_001),
    ],
)
def test_times_are_rounded_up_to_the_microsecond_in_utc(
    source: Deliveries, kind: pa.DataType, value: int
) -> None:
    source.land(with_times(kind, value))
    [row] = source.landed()
    assert row["event_timestamp"] == row["created_timestamp"] == utc("2018-04-01T00:00:00.000001")


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-01 00:00:00.000000001",
        "2018-04-01T00:00:00.0000005Z",
        "2018-04-01 00:00:00.0000009",
        "2018-04-01 02:00:00.000001+02:00",
    ],
)
def test_times_in_text_are_rounded_up_as_well(source: Deliveries, text: str) -> None:
    source.land(csv(f"1,{text},5,"))
    [row] = source.landed()
    assert row["event_timestamp"] == row["created_timestamp"] == utc("2018-04-01T00:00:00.000001")


def test_a_time_rounded_up_over_midnight_is_of_the_next_day(source: Deliveries) -> None:
    assert source.land(with_times(pa.timestamp("ns"), 1_522_627_199_999_999_001)).days == (NEXT_DAY,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.timestamp("s"), 1_522_540_801), (pa.timestamp("ms"), 1_522_540_801_000), (pa.date32(), 17_622)],
)
def test_coarser_times_are_taken_as_they_are(source: Deliveries, kind: pa.DataType, value: int) -> None:
    source.land(with_times(kind, value))
    expected = "2018-04-01T00:00:00" if kind == pa.date32() else "2018-04-01T00:00:01"
    assert event_times(source) == [utc(expected)]


def test_numbers_may_come_in_narrower_types_and_text_in_dictionaries(source: Deliveries) -> None:
    table = pa.Table.from_pylist([payment(1, amount=2, note="x")], schema=SCHEMA)
    table = table.set_column(0, "id", table["id"].cast(pa.uint16()))
    table = table.set_column(2, "amount", table["amount"].cast(pa.decimal128(21, 2)))
    source.land(table.set_column(3, "note", table["note"].combine_chunks().dictionary_encode()))
    assert [(row["id"], row["amount"], row["note"]) for row in source.landed()] == [(1, 2.0, "x")]


def test_positions_are_those_in_the_file_also_in_large_files(source: Deliveries) -> None:
    ids = list(range(300_000))
    columns = {
        "id": ids,
        "paid_at": pa.array([utc("2018-04-01")] * len(ids), pa.timestamp("us")),
        "amount": [1.0] * len(ids),
    }
    source.land(pa.table({**columns, "note": pa.nulls(len(ids), pa.string())}))
    table = source.lake.table("landing/payments").open()
    assert table is not None
    landed = pa.table(table.to_pyarrow_table())
    assert landed.num_rows == len(ids) and landed["id"].equals(landed["position"])


def test_the_same_bytes_again_change_nothing_whatever_the_file_is_called(source: Deliveries) -> None:
    first = source.land([payment(1), payment(2, amount=-1)])
    before = everything(source.settings)
    again = source.land([payment(1), payment(2, amount=-1)], "another_name.parquet")
    assert again.unchanged and again.path.endswith("another_name.parquet")
    assert (again.digest, again.rows, again.quarantined, again.days) == (first.digest, 2, 1, (DAY,))
    assert everything(source.settings) == before


def test_one_file_lands_for_each_source_that_it_is_ingested_for(home: Settings) -> None:
    one, other = Deliveries(home), Deliveries(home, payments(name="other"))
    one.land([payment(1)])
    assert not other.land([payment(1)]).unchanged
    assert landed_days(one.lake, "payments") == landed_days(one.lake, "other") == {DAY}


def test_folders_and_globs_name_their_files_once_in_order(tmp_path: Path) -> None:
    for name in (
        "b.parquet",
        "a.CSV",
        "deep/er/c.csv.gz",
        "notes.md",
        "d.parquet.unfinished",
        "x[1].parquet",
        "x1.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = ["a.CSV", "b.parquet", "deep/er/c.csv.gz", "x1.parquet", "x[1].parquet"]

    def named(*paths: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in expand([str(tmp_path / path) for path in paths])]

    assert named("") == folder
    assert named("*.parquet") == ["b.parquet", "x1.parquet", "x[1].parquet"]
    assert named("**/*.gz", "b.parquet", "b.*") == ["deep/er/c.csv.gz", "b.parquet"]
    assert named("de*") == ["deep/er/c.csv.gz"]
    assert named("x[1].parquet") == ["x[1].parquet"]


def test_a_file_whose_name_looks_like_a_pattern_is_read_itself(source: Deliveries) -> None:
    source.file([payment(1)], "x1.parquet")
    source.land([payment(2)], "x[1].parquet")
    assert [row["id"] for row in source.landed()] == [2]


def test_the_handbooks_columns_land_for_both_declared_sources(home: Settings, tmp_path: Path) -> None:
    times = [utc("2018-04-01T00:00:31"), utc("2018-09-30T23:59:59")]
    columns = [
        [0, 1],
        times,
        [596, 4961],
        [3156, None],
        [57.16, -1.0],
        [31, 15811199],
        [0, 182],
        [0, 1],
        [0, 2],
    ]
    path = tmp_path / "transactions.parquet"
    pq.write_table(pa.table(columns, schema=HANDBOOK), path)
    found = {}
    for spec in of_fraud(SourceSpec):
        ingest(home, spec.model_copy(update={"max_bad_share": 0.5}), path)
        found[spec.name] = Deliveries(home, spec)
    [transaction] = found["transactions"].landed()
    assert (transaction["terminal_id"], transaction["amount"]) == (3156, 57.16)
    assert transaction["created_timestamp"] == transaction["event_timestamp"] == utc("2018-04-01T00:00:31")
    assert [row["reason"] for row in found["transactions"].quarantined()] == ["amount below 0"]
    labels = found["fraud_labels"].landed()
    assert [row["is_fraud"] for row in labels] == [0, 1] and found["fraud_labels"].quarantined() == []
    assert all(row["created_timestamp"] - row["event_timestamp"] == dt.timedelta(days=7) for row in labels)


@pytest.mark.parametrize("name", ["position", "reason", "file_digest", "landing_order", "partition_date"])
def test_a_column_cannot_have_a_name_that_the_platform_uses(name: str) -> None:
    columns = {**payments().model_dump(by_alias=True)["columns"], name: {"type": "string"}}
    with pytest.raises(ValueError, match=f"columns must not be named .*{name}.*`from:`"):
        payments(columns=columns)


def test_a_source_cannot_begin_before_times_are_counted() -> None:
    with pytest.raises(ValueError, match=r"start must not be before 1970-01-01.* got 1969-12-31"):
        payments(start="1969-12-31")


@pytest.mark.parametrize("name", ["content", "before", "typed", "delivered", "landed", "files"])
def test_a_column_can_have_any_other_name(home: Settings, name: str) -> None:
    columns = payments().model_dump(by_alias=True)["columns"]
    source = Deliveries(
        home, payments(columns={**columns, name: {"type": "string", "nullable": True, "from": "note"}})
    )
    source.land(csv("1,2018-04-01,5,x"))
    assert [row[name] for row in source.landed()] == ["x"]
