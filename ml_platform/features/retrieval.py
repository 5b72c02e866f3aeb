"""The job that Feast gets for a read: a stream, a table, SQL, or saved files."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb
import pandas as pd
import pyarrow as pa
from feast import OnDemandFeatureView
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage

from ml_platform.features.entity_rows import Outline
from ml_platform.features.feast_sources import SourceReader, file_source
from ml_platform.features.offline_files import FileTarget
from ml_platform.features.reads import BATCH_ROWS, PointInTimeRead, Read

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


def _closing(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with contextlib.closing(connection):
        yield from rows
