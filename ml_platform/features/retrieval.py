"""The jobs that Feast gets: their results as a stream, a table, SQL or saved files."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb
import pandas as pd
import pyarrow as pa
from feast import FileSource, OnDemandFeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage

from ml_platform.features.entity_rows import Outline
from ml_platform.features.feast_sources import SourceReader, answer_type, describe, file_source, source_column
from ml_platform.features.offline_files import FileTarget
from ml_platform.features.point_in_time import rows_sql
from ml_platform.features.reads import BATCH_ROWS, PointInTimeRead, Read
from ml_platform.features.view_reads import Feature, Times, ViewRead
from ml_platform.kernel.durations import EPOCH
from ml_platform.lake.engine import database


@dataclass(frozen=True)
class Engine:
    """Limits of the DuckDB connection that one read opens; None leaves DuckDB's default."""

    memory_limit: str | None = None
    temp_directory: str | None = None
    threads: int | None = None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A new in-memory connection whose session zone is UTC."""
        return database(
            memory_limit=self.memory_limit, temp_directory=self.temp_directory, threads=self.threads
        )


class ReadMetadata(RetrievalMetadata):
    """Feast's description of a retrieval; looks at the entity rows only when asked about them."""

    def __init__(self, features: Sequence[str], outline: Callable[[], Outline]) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.features = list(features)
        self._outline = outline

    @cached_property
    def _rows(self) -> Outline:
        return self._outline()

    @property
    def keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return [name for name in self._rows.names if name != self._rows.time]

    @property
    def min_event_timestamp(self) -> dt.datetime | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _moment(self._rows.times.first)

    @property
    def max_event_timestamp(self) -> dt.datetime | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _moment(self._rows.times.last)


@dataclass(frozen=True)
class RowsRead:
    """Rows of one source within times; only the newest of each key if `latest`; all columns if none are named.

    Names are the source's own. One that the source does not have is looked up in its field mapping: Feast
    maps names back before it pulls, except when it materializes on-demand views. Without keys the rows get the
    key that Feast gives a view without entities, as in Feast's own stores.
    """

    reader: SourceReader
    source: FileSource
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
        features = [Feature(old, name, answer_type(None, columns[old])) for name, old in found.items()]
        view = ViewRead(
            relation=relation,
            columns=columns,
            keys=tuple((column(key), key) for key in self.keys),
            features=tuple(features),
            event_time=column(self.event_time),
            created_time=column(self.created_time) if self.created_time else None,
        )
        query = rows_sql(view, self.span, latest=self.latest)
        return query if self.keys else f"SELECT *, '{DUMMY_ENTITY_VAL}' AS {DUMMY_ENTITY_ID} FROM ({query})"


class PointInTimeRetrievalJob(RetrievalJob):
    """A read that Feast runs when its result is asked for."""

    def __init__(
        self,
        read: Read,
        *,
        engine: Engine,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        features: Sequence[str] | None = None,
    ) -> None:
        self._read = read
        self._engine = engine
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
        target = FileTarget(source, self._read.reader.absolute(source.path))
        target.check_free(allow_overwrite=allow_overwrite)
        rows = self.to_arrow().to_reader() if self._on_demand_feature_views else self.to_arrow_reader()
        target.replace(rows)


def _moment(micros: int | None) -> dt.datetime | None:
    return None if micros is None else EPOCH + dt.timedelta(microseconds=micros)


def _closing(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with contextlib.closing(connection):
        yield from rows
