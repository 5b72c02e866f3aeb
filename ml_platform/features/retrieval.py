"""Runs reads of features: opens an engine, joins or selects, and hands the result on as a stream or a table."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from feast import OnDemandFeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage

from ml_platform.features.entity_rows import EntityRelation, EntityRows, FrameRows, Outline, QueryRows
from ml_platform.features.feast_sources import (
    SourceReader,
    answer_type,
    describe,
    file_source,
    source_column,
    view_read,
)
from ml_platform.features.feature_requests import RequestedView, check_names
from ml_platform.features.offline_files import FileTarget
from ml_platform.features.point_in_time import (
    RANGE_TIME,
    Feature,
    RowOrder,
    Times,
    ViewRead,
    delays_sql,
    join_sql,
    range_sql,
    row_order,
    rows_sql,
    ties_sql,
)

BATCH_ROWS = 122_880
"""Rows of one batch of a stream: a row group of DuckDB's."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Engine:
    """Limits of the DuckDB connection that one read opens; None leaves DuckDB's default."""

    memory_limit: str | None = None
    temp_directory: str | None = None
    threads: int | None = None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A new in-memory connection whose session zone is UTC."""
        wanted = {
            "memory_limit": self.memory_limit,
            "temp_directory": self.temp_directory,
            "threads": self.threads,
        }
        config = {name: str(value) for name, value in wanted.items() if value is not None}
        connection = duckdb.connect(":memory:", config=config)
        connection.execute("SET TimeZone = 'UTC'")
        return connection


class ReadMetadata(RetrievalMetadata):
    """Feast's description of a retrieval; looks at the entity rows only when asked about them."""

    def __init__(self, features: Sequence[str], outline: Callable[[], Outline]) -> None:
        self.features = list(features)
        self._outline = outline

    @cached_property
    def _rows(self) -> Outline:
        return self._outline()

    @property
    def keys(self) -> list[str]:
        return [name for name in self._rows.names if name != self._rows.time]

    @property
    def min_event_timestamp(self) -> dt.datetime | None:
        return _moment(self._rows.times.first)

    @property
    def max_event_timestamp(self) -> dt.datetime | None:
        return _moment(self._rows.times.last)


class Read(Protocol):
    """A read that can be run, as often as asked."""

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
        query, entities = self._plan(connection, ordered=True)
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
        """The whole answer, as `stream` gives it; for a frame in memory faster, as rows are ordered here."""
        if not isinstance(self.entities, FrameRows):
            return self.stream(connection, BATCH_ROWS).read_all()
        query, entities = self._plan(connection, ordered=False)
        places, *features = connection.sql(query).to_arrow_table().columns
        rows = places.to_numpy()
        order = np.empty_like(rows)
        order[rows] = np.arange(len(rows))
        taken = [features.pop(0).take(pa.array(order)) for _ in range(len(features))]
        return pa.table([*self.entities.table.columns, *taken], names=self._names(entities))

    def sql(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The join as one statement over `entity_rows`."""
        return self._plan(connection, ordered=True)[0]

    def _names(self, entities: EntityRelation) -> list[str]:
        return [*entities.names, *(name for requested in self.views for _, name in requested.features)]

    def _plan(self, connection: duckdb.DuckDBPyConnection, *, ordered: bool) -> tuple[str, EntityRelation]:
        reads = [self._view_read(connection, requested) for requested in self.views]
        rows = self.entities or QueryRows(range_sql(reads, self.span))
        entities = rows.relation(connection, self.entity_columns)
        check_names(entities.names, self.views)
        query = join_sql(
            [(read, _scan(connection, read, entities.times)) for read in reads],
            times=entities.times,
            key_columns=entities.key_columns,
            carried=entities.carried,
            ordered=ordered,
        )
        return query, entities

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


@dataclass(frozen=True)
class RowsRead:
    """Rows of one source within times; only the newest of each key if `latest`; all columns if none are named.

    Names are the source's own. One that the source does not have is looked up in its field mapping: Feast
    maps names back before it pulls, except when it materializes on-demand views.
    """

    reader: SourceReader
    source: DataSource
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    event_time: str
    created_time: str | None
    span: Times
    latest: bool

    def stream(self, connection: duckdb.DuckDBPyConnection, batch_rows: int) -> pa.RecordBatchReader:
        """The rows, batch by batch."""
        return connection.sql(self.sql(connection)).to_arrow_reader(batch_rows)

    def table(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """The rows, all at once."""
        return connection.sql(self.sql(connection)).to_arrow_table()

    def sql(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The selection as one statement."""
        relation = self.reader.select(self.source)
        columns = describe(connection, relation)

        def column(name: str) -> str:
            mapping = {} if name in columns else self.source.field_mapping or {}
            return source_column(name, mapping=mapping, columns=columns, owner=self.source.name)

        found = {name: column(name) for name in self.columns or columns}
        features = tuple(Feature(old, name, answer_type(None, columns[old])) for name, old in found.items())
        view = ViewRead(
            relation=relation,
            columns=columns,
            keys=tuple((column(key), key) for key in self.keys),
            features=features,
            event_time=column(self.event_time),
            created_time=column(self.created_time) if self.created_time else None,
        )
        return rows_sql(view, self.span, latest=self.latest)


class PointInTimeRetrievalJob(RetrievalJob):
    """A read that Feast runs when its result is asked for."""

    def __init__(
        self,
        read: Read,
        *,
        engine: Engine,
        reader: SourceReader,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        features: Sequence[str] | None = None,
    ) -> None:
        self._read = read
        self._engine = engine
        self._reader = reader
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = None if features is None else ReadMetadata(features, self._outline)

    def to_arrow_reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The result batch by batch, before on-demand feature views; holds one batch in memory at a time.

        Spills to the configured folder beyond the memory limit. The connection closes with the last batch.
        """
        connection = self._engine.connect()
        try:
            rows = self._read.stream(connection, batch_rows)
        except BaseException:
            connection.close()
            raise
        return pa.RecordBatchReader.from_batches(rows.schema, _closing(connection, rows))

    def to_sql(self) -> str:
        """The statement that `to_arrow_reader` runs; entity rows are the relation `entity_rows`."""
        with contextlib.closing(self._engine.connect()) as connection:
            return self._read.sql(connection)

    def _outline(self) -> Outline:
        assert isinstance(self._read, PointInTimeRead)
        with contextlib.closing(self._engine.connect()) as connection:
            return self._read.outline(connection)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with contextlib.closing(self._engine.connect()) as connection:
            return self._read.table(connection)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the result, with on-demand features, to a Parquet file, a Parquet folder or a Delta table.

        Raises Feast's SavedDatasetLocationAlreadyExists if something is there and may not be overwritten.
        """
        source = file_source(storage.to_data_source())
        target = FileTarget(source, self._reader.absolute(source.path))
        target.check_free(allow_overwrite=allow_overwrite)
        rows = self.to_arrow().to_reader() if self._on_demand_feature_views else self.to_arrow_reader()
        target.replace(rows)


def _moment(micros: int | None) -> dt.datetime | None:
    return None if micros is None else _EPOCH + dt.timedelta(microseconds=micros)


def _scan(connection: duckdb.DuckDBPyConnection, read: ViewRead, times: Times) -> RowOrder:
    """Look at a view's rows once or twice to learn whether the fast path is exact."""
    delays = connection.execute(delays_sql(read, times)).fetchall()[0] if read.cuts_created else (None, None)
    order = row_order(read, *delays)
    (ties,) = connection.execute(ties_sql(read, order, times)).fetchall()[0]
    return replace(order, ties=ties)


def _beside(frame: pa.Table, rows: pa.RecordBatchReader) -> Iterator[list[pa.Array]]:
    """Features of each batch of the answer, after the same rows of the frame, without copies."""
    start = 0
    for batch in rows:
        same_rows = frame.slice(start, batch.num_rows).combine_chunks()
        start += batch.num_rows
        yield [*(column.chunk(0) for column in same_rows.columns), *batch.columns[1:]]


def _closing(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with contextlib.closing(connection):
        yield from rows
