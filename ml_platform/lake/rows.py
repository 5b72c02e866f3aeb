"""Rows that can be read more than once, each time from their start and, unless they are a table, never all at once.

What is published is read twice: to know its hashes, which the commit tells, and to write it; and once more for each
commit that another writer was faster than.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import cadence_of, contiguous


class Rows(Protocol):
    """Rows that start anew whenever they are asked for; so does a table, and a relation, and a reader does not.

    A relation's connection stays open, and runs nothing else while its rows are read.
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def stream(rows: Rows) -> pa.RecordBatchReader:
    """The rows from their start, in their order, as batches that are made when they are asked for."""
    return pa.RecordBatchReader.from_stream(rows)


def of_partitions(rows: duckdb.DuckDBPyRelation, keys: Sequence[str]) -> duckdb.DuckDBPyRelation:
    """The rows of one or more partitions of one cadence, in their order.

    They are named as ranges: DuckDB skips what is outside of them, and makes a join of a long list, which has no order.
    """
    ranges, cadence = [(run[0], run[-1]) for run in contiguous(keys)], cadence_of(keys[0])
    kind = "DATE " if cadence.column_type == "date" else ""
    within = (f"{cadence.column} BETWEEN {kind}'{first}' AND {kind}'{last}'" for first, last in ranges)
    return rows.filter(" OR ".join(within))


def by_partition(rows: Rows, partition_column: str) -> Iterator[tuple[str, pa.Table]]:
    """Partition key and its rows, one partition after the other; StoreError for rows not ordered by partition."""
    slices = (found for batch in stream(rows) for found in _slices(batch, partition_column))
    seen = set[str]()
    for key, parts in groupby(slices, key=itemgetter(0)):
        if key in seen:
            raise StoreError(
                f"rows ordered by {partition_column} are required; {key} comes in several places"
            )
        seen.add(key)
        yield key, pa.Table.from_batches([part for _, part in parts])


def _slices(batch: pa.RecordBatch, partition_column: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    encoded = pc.run_end_encode(batch.column(partition_column))  # pyright: ignore[reportAttributeAccessIssue]
    start = 0
    for end, value in zip(encoded.run_ends.to_pylist(), encoded.values.to_pylist(), strict=True):
        yield str(value), batch.slice(start, end - start)
        start = end
