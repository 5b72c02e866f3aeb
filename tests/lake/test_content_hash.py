"""The content hash sees values, order and types, and nothing of how they are stored."""

import datetime as dt
import itertools
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.errors import StoreError
from ml_platform.lake.content_hash import content_hash, partition_hashes

COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "number": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "small": (pa.int32(), st.none() | st.integers(-5, 5)),
    "share": (pa.float64(), st.none() | st.floats(allow_nan=False)),
    "text": (pa.string(), st.none() | st.text(max_size=4)),
    "flag": (pa.bool_(), st.none() | st.booleans()),
    "at": (pa.timestamp("us", "UTC"), st.none() | st.datetimes(timezones=st.just(dt.UTC))),
    "day": (pa.date32(), st.none() | st.dates()),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])
ROWS = st.lists(st.fixed_dictionaries({name: values for name, (_, values) in COLUMNS.items()}), max_size=8)


def one(value: Any, kind: pa.DataType) -> str:
    return content_hash(pa.table({"c": pa.array([value], kind)}))


@given(ROWS, st.lists(st.integers(0, 8), max_size=3))
def test_chunks_and_slices_never_matter(found: list[dict[str, Any]], cuts: list[int]) -> None:
    whole = pa.Table.from_pylist(found, schema=SCHEMA)
    edges = sorted({0, len(found), *(cut for cut in cuts if cut < len(found))})
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    assert content_hash(pa.concat_tables([whole.slice(0, 0), *parts])) == content_hash(whole)
    padded = pa.Table.from_pylist([dict.fromkeys(SCHEMA.names), *found], schema=SCHEMA)
    assert content_hash(padded.slice(1)) == content_hash(whole)


@given(ROWS, ROWS)
def test_equal_hashes_are_equal_rows_in_equal_order(
    one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    tables = [pa.Table.from_pylist(found, schema=SCHEMA) for found in (one, other)]
    # Bits, not numbers: -0.0 is another content than 0.0, so compare as text.
    assert (content_hash(tables[0]) == content_hash(tables[1])) == (repr(one) == repr(other))


def test_null_is_neither_zero_nor_empty_nor_false() -> None:
    for kind, zero in ((pa.int64(), 0), (pa.float64(), 0.0), (pa.string(), ""), (pa.bool_(), False)):
        assert one(None, kind) != one(zero, kind)


def test_text_cannot_flow_over_into_its_neighbour() -> None:
    hashes = {
        content_hash(pa.table({"c": pair})) for pair in (["ab", "c"], ["a", "bc"], ["abc", ""], ["é", "c"])
    }
    assert len(hashes) == 4
    left, right = pa.table({"a": ["x"], "b": ["yz"]}), pa.table({"a": ["xy"], "b": ["z"]})
    assert content_hash(left) != content_hash(right)


def test_order_types_and_names_count() -> None:
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    changed = [
        table.take([1, 0]),
        table.select(["b", "a"]),
        table.rename_columns(["a", "c"]),
        table.cast(pa.schema([("a", pa.int32()), ("b", pa.int64())])),
        table.cast(pa.schema([("a", pa.float64()), ("b", pa.int64())])),
        table.slice(0, 1),
    ]
    assert len({content_hash(other) for other in (table, *changed)}) == len(changed) + 1


def test_a_table_without_rows_has_the_hash_of_its_columns() -> None:
    empty = pa.table({"a": pa.array([], pa.int64())})
    assert content_hash(empty) == content_hash(pa.table({"a": pa.chunked_array([], pa.int64())}))
    assert content_hash(empty) != content_hash(pa.table({"a": pa.array([], pa.string())}))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()])
def test_text_is_text_whatever_its_layout(kind: pa.DataType) -> None:
    plain = pa.table({"c": ["a", None, ""]})
    assert content_hash(plain.cast(pa.schema([("c", kind)]))) == content_hash(plain)


def test_a_time_is_its_microsecond_whatever_its_unit() -> None:
    at = dt.datetime(2018, 6, 1, 12, tzinfo=dt.UTC)
    units = [
        pa.timestamp("us", "UTC"),
        pa.timestamp("ms", "UTC"),
        pa.timestamp("s", "UTC"),
        pa.timestamp("ns", "UTC"),
    ]
    assert len({one(at, unit) for unit in units}) == 1


def test_compression_and_dictionaries_in_a_file_never_matter(tmp_path: Any) -> None:
    table = pa.table({"c": ["a", "b", "a", None] * 100, "x": [1.5, None, -0.0, 3.0] * 100})
    pq.write_table(table, tmp_path / "one.parquet", compression="zstd", row_group_size=7)
    pq.write_table(table, tmp_path / "two.parquet", compression="none", use_dictionary=False)
    hashes = {content_hash(pq.read_table(tmp_path / name)) for name in ("one.parquet", "two.parquet")}
    assert hashes == {content_hash(table)}


@pytest.mark.parametrize("column", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"x"])])
def test_a_type_without_canonical_bytes_is_refused(column: pa.Array) -> None:
    with pytest.raises(StoreError, match="a content hash needs"):
        content_hash(pa.table({"c": column}))


def test_each_partition_has_the_hash_of_its_own_rows() -> None:
    days = [dt.date(2018, 6, 1)] * 2 + [dt.date(2018, 6, 2)]
    table = pa.table({"x": [1, 2, 3], "partition_date": pa.chunked_array([days[:1], days[1:]])})
    found = {key: (part.num_rows, digest) for key, part, digest in partition_hashes(table, "partition_date")}
    assert found == {
        "2018-06-01": (2, content_hash(pa.table({"x": [1, 2]}))),
        "2018-06-02": (1, content_hash(pa.table({"x": [3]}))),
    }
    assert list(partition_hashes(table.slice(0, 0), "partition_date")) == []
