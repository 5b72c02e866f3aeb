"""A file that cannot be right is refused whole: one clear InputError, and nothing in the lake has changed."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.sources.landing import expand, ingest
from tests.sources.deliveries import SCHEMA, Deliveries, Row, csv, everything, payment, payments


@pytest.fixture
def source(home: Settings) -> Deliveries:
    """A source that has taken one file before."""
    source = Deliveries(home)
    source.land([payment(1, amount=5), payment(2, amount=6)])
    return source


def table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def parquet_bytes(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return buffer.getvalue()


def refusal(source: Deliveries, content: Any, name: str | None = None, **how: Any) -> str:
    """The words of the InputError; asserts that every table of the lake is as it was."""
    path = source.file(content, name)
    before = everything(source.settings)
    with pytest.raises(InputError) as refused:
        ingest(source.settings, source.spec, path, **how)
    assert everything(source.settings) == before
    return str(refused.value)


GOOD = table(payment(9))
GOOD_BYTES = parquet_bytes(table(*[payment(i, note=f"a note {i}") for i in range(10, 2000)]))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (GOOD.append_column("colour", pa.array(["red"])), "unknown: ['colour']"),
        (GOOD.append_column("position", pa.array([1])), "unknown: ['position']"),
        (GOOD.drop_columns(["amount"]), "missing: ['amount']"),
        (GOOD.rename_columns(["id", "at", "amount", "note"]), "missing: ['paid_at'], unknown: ['at']"),
        (csv("1,2018-04-01,5,").replace("amount", "Amount"), "missing: ['amount'], unknown: ['Amount']"),
        (GOOD.set_column(0, "id", pa.array(["9"])), "id must be int64, is VARCHAR"),
        (GOOD.set_column(0, "id", pa.array([9.0])), "id must be int64, is DOUBLE"),
        (GOOD.set_column(1, "paid_at", pa.array(["2018-04-01"])), "paid_at must be timestamp, is VARCHAR"),
        (GOOD.set_column(1, "paid_at", pa.array([1522576800])), "paid_at must be timestamp, is BIGINT"),
        (GOOD.set_column(2, "amount", pa.array(["5"])), "amount must be double, is VARCHAR"),
        (GOOD.slice(0, 0), "rows are required and the file has none"),
        (csv(), "rows are required and the file has none"),
    ],
)
def test_a_file_with_other_columns_types_or_no_rows(source: Deliveries, content: Any, why: str) -> None:
    assert why in refusal(source, content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "zero.parquet"),
        (GOOD_BYTES[: len(GOOD_BYTES) // 2], "truncated.parquet"),
        (GOOD_BYTES[:200] + b"\xab" * 4000 + GOOD_BYTES[4200:], "garbled.parquet"),
        (b"id,paid_at\n", "not_parquet.parquet"),
        (bytes(range(256)) * 20, "binary.csv"),
        ("id,paid_at,amount,note\n1,2018-04-01,5,café\n".encode("latin-1"), "latin1.csv"),
        (
            csv(
                *(f"{i},2018-04-01T10:00:00,5,x" for i in range(10, 30_000)), "7,2018-04-01,5,x,y,z"
            ).encode(),
            "late.csv",
        ),
    ],
)
def test_a_file_that_breaks_off_or_is_garbled(source: Deliveries, content: bytes, name: str) -> None:
    words = refusal(source, content, name)
    wanted = "a complete Parquet file" if name.endswith("parquet") else "a CSV file with a header"
    assert f"{wanted} is required" in words and "The file was refused whole" in words


@pytest.mark.parametrize(
    "content", ["", csv("1,2018-04-01,5,x,more"), csv("1,2018-04-01,5"), csv('1,2018-04-01,5,"open')]
)
def test_a_csv_file_without_one_shape(source: Deliveries, content: str) -> None:
    assert "missing: ['amount', 'id', 'note', 'paid_at']" in refusal(source, content)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([payment(9, amount=1), payment(9, amount=2)], id="two contents"),
        pytest.param([payment(9, note=None), payment(9, note="")], id="null and empty"),
        pytest.param([payment(9), payment(9, "2018-04-01T11:00:00")], id="two event times"),
        pytest.param([payment(9), payment(9, "2018-04-07T10:00:00")], id="two days"),
    ],
)
def test_a_file_that_contradicts_itself(source: Deliveries, rows: list[Row]) -> None:
    words = refusal(source, [payment(8), *rows])
    assert "1 ids have several, such as id 9" in words


def test_a_file_of_corrections_that_moves_an_event_within_itself(source: Deliveries) -> None:
    rows = [payment(9), payment(9, "2018-04-01T11:00:00")]
    assert "one event time per id" in refusal(source, rows, known_at="2018-05-01")


@pytest.mark.parametrize(
    ("row", "how", "why"),
    [
        (payment(1, amount=7), {}, "0 rows move their event and 1 contradict, such as id 1"),
        (payment(1, amount=5, note="new"), {}, "1 contradict"),
        (payment(1, "2018-04-01T10:00:01", amount=5), {}, "1 rows move their event and 0 contradict"),
        (payment(2, "2018-04-03T10:00:00"), {"known_at": "2018-05-01"}, "1 rows move their event"),
        (payment(1, amount=7), {"known_at": "2018-04-01T10:00:00"}, "1 contradict"),
    ],
)
def test_a_file_that_contradicts_what_has_landed(source: Deliveries, row: Row, how: Any, why: str) -> None:
    words = refusal(source, [payment(9), row], **how)
    assert why in words and "--known-at TIME" in words and "--replaces DIGEST" in words


def test_a_file_with_more_bad_rows_than_declared_names_the_most_frequent_reasons(source: Deliveries) -> None:
    rows = [payment(9), payment(10, amount=-1), payment(11, amount=-1), payment(12, "2019-01-01T00:00:00")]
    words = refusal(source, rows)
    assert "at most 50.0% bad rows are allowed; 3 of 4 are bad" in words
    assert "amount below 0 (2 rows, first at 1)" in words


def test_a_share_of_bad_rows_at_the_limit_is_taken(source: Deliveries) -> None:
    assert source.land([payment(9), payment(10, amount=-1)]).quarantined == 1


@pytest.mark.parametrize("digest", ["feedc0de", "", "zz"])
def test_a_file_in_the_place_of_an_unknown_one(source: Deliveries, digest: str) -> None:
    words = refusal(source, GOOD, replaces=digest)
    assert "the digest of one landed file of source 'payments' is required; 0 match" in words
    assert "1.parquet" in words


def test_a_file_in_the_place_of_one_that_another_has_already_taken(source: Deliveries) -> None:
    first = source.land([payment(20)])
    source.land([payment(21)], replaces=first.digest)
    assert "another has taken its place" in refusal(source, [payment(22)], replaces=first.digest)


@pytest.mark.parametrize("known_at", ["", "yesterday", "2018-13-01", "2018-05-01' AS created, 1 --"])
def test_corrections_known_at_no_time(source: Deliveries, known_at: str) -> None:
    assert "--known-at requires a time such as" in refusal(source, GOOD, known_at=known_at)


def test_known_at_for_files_that_say_it_themselves(home: Settings) -> None:
    columns = {**payments().model_dump(by_alias=True)["columns"], "created_timestamp": {"type": "timestamp"}}
    source = Deliveries(home, payments(columns=columns))
    rows = GOOD.append_column("created_timestamp", GOOD["paid_at"])
    assert "carry created_timestamp" in refusal(source, rows, known_at="2018-05-01")


def test_the_same_bytes_known_at_another_time(source: Deliveries) -> None:
    landed = source.land([payment(9)], known_at="2018-05-01")
    words = refusal(source, [payment(9)], known_at="2018-06-01")
    assert f"these bytes have landed as {landed.digest[:12]}" in words


@pytest.mark.parametrize("name", ["absent.parquet", "inbox"])
def test_a_path_that_cannot_be_read(source: Deliveries, name: str) -> None:
    before = everything(source.settings)
    with pytest.raises(InputError, match=r"a readable file is required; .* Nothing was landed"):
        ingest(source.settings, source.spec, source.settings.root / name)
    assert everything(source.settings) == before


@pytest.mark.parametrize("named", ["nowhere.parquet", "empty", "empty/*.parquet", "[x]*"])
def test_paths_that_name_no_file(tmp_path: Path, named: str) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "notes.md").touch()
    (tmp_path / "empty" / "folder.parquet").mkdir()
    with pytest.raises(InputError, match="a folder or a glob of them is required; found none"):
        expand([str(tmp_path / named)])
