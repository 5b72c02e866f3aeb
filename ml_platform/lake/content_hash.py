"""A hash of what rows say, whatever engine, file layout or compression they came from."""

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.kernel.errors import StoreError
from ml_platform.lake.rows import Rows, by_partition

NO_ROWS_HASH = "0" * 32
"""Stands for a partition without rows: there are no columns to hash either."""


def content_hash(rows: pa.Table) -> str:
    """Thirty-two hex digits of the rows' values in their order; chunking and null padding never matter.

    Every column is hashed as name, type, null positions and values (zero where null). Callers order the
    rows by a unique key first. Raises StoreError for a column type that has no canonical bytes here.
    """
    digest = hashlib.sha256(str(rows.num_rows).encode())
    for field, column in zip(rows.schema, rows.columns, strict=True):
        digest.update(f"\0{field.name}:{_type_name(field.type)}\0".encode())
        digest.update(_column_bytes(column))
    return digest.hexdigest()[:32]


def partition_hashes(rows: Rows, partition_column: str) -> Iterator[tuple[str, pa.Table, str]]:
    """Partition key, its rows and their hash, for rows that are ordered by partition and key."""
    for key, part in by_partition(rows, partition_column):
        yield key, part, content_hash(part.drop_columns([partition_column]))


def _column_bytes(column: pa.ChunkedArray) -> bytes:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    nulls = array.is_null().to_numpy(zero_copy_only=False).tobytes()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        filled = pc.fill_null(array.cast(pa.string()), "")
        lengths = pc.binary_length(filled)  # pyright: ignore[reportAttributeAccessIssue]
        sizes = lengths.to_numpy(zero_copy_only=False).tobytes()
        return nulls + sizes + "".join(filled.to_pylist()).encode()
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif pa.types.is_date32(kind):
        array = array.cast(pa.int32())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise StoreError(f"a content hash needs numbers, text, booleans or times; a column has type {kind}")
    zero = pa.scalar(0, array.type) if not pa.types.is_boolean(array.type) else pa.scalar(False)
    return nulls + pc.fill_null(array, zero).to_numpy(zero_copy_only=False).tobytes()


def _type_name(kind: pa.DataType) -> str:
    """One name for the types that mean the same in every engine."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return "timestamp" if pa.types.is_timestamp(kind) else str(kind)
