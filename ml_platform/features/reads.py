"""Runs the point-in-time join of several feature views on a connection."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import duckdb
import pyarrow as pa

from ml_platform.features.entity_rows import EntityRelation, EntityRows, FrameRows, Outline, QueryRows
from ml_platform.features.feast_sources import SourceReader, comparable, describe, view_read
from ml_platform.features.feature_requests import RequestedView, check_names
from ml_platform.features.in_memory import features_in_memory
from ml_platform.features.point_in_time import ENTITY_ROWS, RANGE_TIME, join_sql, range_sql
from ml_platform.features.row_order import scan
from ml_platform.features.view_reads import Times, ViewRead
from ml_platform.kernel.errors import InputError

BATCH_ROWS = 122_880
"""Rows of one batch of a stream: a row group of DuckDB's."""


class Read(Protocol):
    """A read that can be run as often as asked: batch by batch, as one table, or only shown as SQL."""

    @property
    def reader(self) -> SourceReader: ...

    def stream(self, connection: duckdb.DuckDBPyConnection, batch_rows: int) -> pa.RecordBatchReader: ...

    def table(self, connection: duckdb.DuckDBPyConnection) -> pa.Table: ...

    def sql(self, connection: duckdb.DuckDBPyConnection) -> str: ...


@dataclass(frozen=True)
class PointInTimeRead:
    """Features of several views for entity rows; without entity rows, for every key and time of a range."""

    reader: SourceReader
    views: tuple[RequestedView, ...]
    known_at: bool
    entities: EntityRows | None
    span: Times

    def outline(self, connection: duckdb.DuckDBPyConnection) -> Outline:
        """Columns and times of the entity rows."""
        if self.entities is not None:
            return self.entities.outline(connection)
        return Outline((RANGE_TIME, *self.entity_columns), RANGE_TIME, self.span)

    @property
    def entity_columns(self) -> list[str]:
        """The columns of the entity rows that views are joined on."""
        return list(dict.fromkeys(column for requested in self.views for column in requested.entity_columns))

    def stream(self, connection: duckdb.DuckDBPyConnection, batch_rows: int) -> pa.RecordBatchReader:
        """The answer batch by batch: entity columns in their order, then the features of each view."""
        query, entities = self._plan(connection)
        rows = connection.sql(query).to_arrow_reader(batch_rows)
        types = [field.type for field in list(rows.schema)[1:]]
        batches: Iterable[Sequence[pa.Array]] = (batch.columns[1:] for batch in rows)
        if entities.frame is not None:
            types = [*entities.frame.schema.types, *types]
            batches = _beside(entities.frame, rows)
        schema = pa.schema(list(zip(self._names(entities), types, strict=True)))
        return pa.RecordBatchReader.from_batches(
            schema, (pa.RecordBatch.from_arrays(list(columns), schema=schema) for columns in batches)
        )

    def table(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """The whole answer, as `stream` gives it; several times faster for a frame and views that fit in memory."""
        if isinstance(self.entities, FrameRows):
            reads, entities = self._prepared(connection)
            features = features_in_memory(connection, reads, self.entities)
            if features is not None:
                return pa.table([*self.entities.table.columns, *features], names=self._names(entities))
        return self.stream(connection, BATCH_ROWS).read_all()

    def sql(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The join as one statement over `entity_rows`."""
        return self._plan(connection)[0]

    def _names(self, entities: EntityRelation) -> list[str]:
        return [*entities.names, *(name for requested in self.views for _, name in requested.features)]

    def _plan(self, connection: duckdb.DuckDBPyConnection) -> tuple[str, EntityRelation]:
        reads, entities = self._prepared(connection)
        query = join_sql(
            [(read, scan(connection, read, entities.times)) for read in reads],
            times=entities.times,
            key_columns=entities.key_columns,
            carried=entities.carried,
        )
        return query, entities

    def _prepared(self, connection: duckdb.DuckDBPyConnection) -> tuple[list[ViewRead], EntityRelation]:
        """What to read of each view, and the entity rows, which fit to it."""
        reads = [self._view_read(connection, requested) for requested in self.views]
        rows = self.entities or QueryRows(range_sql(reads, self.span))
        entities = rows.relation(connection, self.entity_columns)
        check_names(entities.names, self.views)
        _check_keys(describe(connection, f"FROM {ENTITY_ROWS}"), reads, entities)
        return reads, entities

    def _view_read(self, connection: duckdb.DuckDBPyConnection, requested: RequestedView) -> ViewRead:
        relation = self.reader.select(requested.view.batch_source)
        return view_read(
            requested.view,
            requested.features,
            relation=relation,
            columns=describe(connection, relation),
            join_keys=requested.join_keys,
            known_at=self.known_at,
        )


def _check_keys(found: Mapping[str, str], reads: Sequence[ViewRead], entities: EntityRelation) -> None:
    """Raise InputError for a join key whose type cannot be compared with the source's."""
    for read in reads:
        for column, key in read.keys:
            asked, stored = found[entities.key_columns[key]], read.columns[column]
            if not comparable(asked, stored):
                raise InputError(
                    f"join key {key!r} must have one type on both sides; the entity rows have {asked}, the source "
                    f"has {stored}, and no row would match as meant; cast the entity column"
                )


def _beside(frame: pa.Table, rows: pa.RecordBatchReader) -> Iterator[list[pa.Array]]:
    """Features of each batch of the answer, after the same rows of the frame, without copies."""
    start = 0
    for batch in rows:
        same_rows = frame.slice(start, batch.num_rows).combine_chunks()
        start += batch.num_rows
        yield [*(column.chunk(0) for column in same_rows.columns), *batch.columns[1:]]
