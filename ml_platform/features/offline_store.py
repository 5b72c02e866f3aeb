"""Feast's offline store on DuckDB: point-in-time joins as ASOF joins, over Parquet files and Delta tables.

`feature_store.yaml` names it as `type: ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore`. Feast
imports this module, and only Feast does, so that it imports Feast at its top.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import compute_non_entity_date_range, make_tzaware
from pydantic import Field

from ml_platform.features.entity_rows import EntityRows, FrameRows, QueryRows, require_columns
from ml_platform.features.feast_sources import SourceReader, file_source
from ml_platform.features.feature_requests import RequestedView, check_names, requested_views
from ml_platform.features.offline_files import FileTarget
from ml_platform.features.reads import PointInTimeRead
from ml_platform.features.retrieval import Engine, PointInTimeRetrievalJob, RowsRead
from ml_platform.features.view_reads import Times
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.errors import DeclarationError, InputError


class DuckDBPointInTimeOfflineStoreConfig(FeastConfigBaseModel):
    """What `offline_store:` in `feature_store.yaml` may say."""

    type: Literal["ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore"] = (
        "ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore"
    )
    known_at: bool = Field(
        default=False, description="Read only rows created at or before the entity row's time."
    )
    memory_limit: str | None = Field(
        default=None, description="DuckDB's memory limit for one read, such as 2GB."
    )
    temp_directory: str | None = Field(
        default=None, description="Folder that reads spill to beyond the limit."
    )
    threads: int | None = Field(
        default=None, description="DuckDB's threads for one read; default: all cores."
    )
    table_versions: dict[str, int] = Field(
        default={},
        description="Delta version to read, by the path that the source declares; others: the newest.",
    )
    table_files: dict[str, list[str]] = Field(
        default={},
        description="Data files to read, by the path that the source declares; wins over versions.",
    )

    def engine(self) -> Engine:
        """The limits that reads run under."""
        return Engine(self.memory_limit, self.temp_directory, self.threads)

    def reader(self, config: RepoConfig) -> SourceReader:
        """Finds source rows from the repository's folder, at the configured versions."""
        return SourceReader(config.repo_path, self.table_versions, self.table_files)


class DuckDBPointInTimeOfflineStore(OfflineStore):
    """Reads features as of the time of each entity row, and on request as they were known then."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: dt.datetime | None = None,
        end_date: dt.datetime | None = None,
    ) -> PointInTimeRetrievalJob:
        """Features for each entity row: of each view the newest row between `t - ttl` and `t`, both included.

        `entity_df` is a pandas frame, a SQL query, or None for every key and event time between the dates. Rows
        come in the order of the entity rows. A view tagged `available_after` is read that much earlier than `t`.
        """
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        views = requested_views(
            feature_views,
            feature_refs,
            on_demand=on_demand,
            full_names=full_feature_names,
            registry=registry,
            project=project,
        )
        read = _point_in_time_read(
            config,
            views,
            entities=_entity_rows(entity_df),
            span=_range(feature_views, start_date, end_date),
            known_at=filter_by_created_timestamp,
        )
        return PointInTimeRetrievalJob(
            read,
            engine=_settings(config).engine(),
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            features=feature_refs,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: dt.datetime | None = None,
        end_date: dt.datetime | None = None,
    ) -> PointInTimeRetrievalJob:
        """The newest row of each key with an event time between the dates, both included."""
        return _pull(
            config,
            data_source,
            keys=join_key_columns,
            features=feature_name_columns,
            times=(timestamp_field, created_timestamp_column),
            span=_span(start_date, end_date),
            latest=True,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: dt.datetime | None = None,
        end_date: dt.datetime | None = None,
    ) -> PointInTimeRetrievalJob:
        """All rows with an event time between the dates, both included; None leaves an end open."""
        return _pull(
            config,
            data_source,
            keys=join_key_columns,
            features=feature_name_columns,
            times=(timestamp_field, created_timestamp_column),
            span=_span(start_date, end_date),
            latest=False,
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the view's source, cast to its types. Raises if names or order of columns differ."""
        _target(config, feature_view.batch_source).append(table)
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add logged features, a table or a Parquet file or folder, to the destination folder as new files."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise DeclarationError(
                f"logged features need a FileLoggingDestination with this offline store; "
                f"got {type(destination).__name__}"
            )
        rows = data if isinstance(data, pa.Table) else ds.dataset(data, format="parquet")
        _target(config, destination.to_data_source()).add_files(
            rows, partition_by=destination.partition_by or ()
        )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Columns of a source with their Arrow types, found from the repository as reads find them."""
        schema = _target(config, data_source).schema()
        return [(field.name, str(field.type)) for field in schema]


def _settings(config: RepoConfig) -> DuckDBPointInTimeOfflineStoreConfig:
    settings = config.offline_store
    assert isinstance(settings, DuckDBPointInTimeOfflineStoreConfig)
    return settings


def _entity_rows(entities: pd.DataFrame | str | None) -> EntityRows | None:
    if entities is None:
        return None
    if isinstance(entities, str):
        return QueryRows(entities)
    if isinstance(entities, pd.DataFrame):
        return FrameRows.of(entities)
    raise InputError(f"entity_df must be a pandas frame, a SQL query or None; got {type(entities).__name__}")


def _point_in_time_read(
    config: RepoConfig,
    views: tuple[RequestedView, ...],
    *,
    entities: EntityRows | None,
    span: Times,
    known_at: bool,
) -> PointInTimeRead:
    """The read of the views; raises at once, not when it runs, if a frame in memory cannot be joined with them."""
    settings = _settings(config)
    read = PointInTimeRead(
        reader=settings.reader(config),
        views=views,
        known_at=settings.known_at or known_at,
        entities=entities,
        span=span,
    )
    if isinstance(entities, FrameRows):
        names = entities.table.column_names
        require_columns(names, read.entity_columns)
        check_names(names, views)
    return read


def _range(views: list[FeatureView], start: dt.datetime | None, end: dt.datetime | None) -> Times:
    """The times of a read without entity rows, by Feast's rule for what is not given."""
    return _span(*compute_non_entity_date_range(views, start, None if _is_local_now(end) else end))


def _is_local_now(date: dt.datetime | None) -> bool:
    """Whether a date is the machine's naive wall clock: Feast passes that where no end is given."""
    if date is None or date.tzinfo is not None:
        return False
    now = dt.datetime.now(dt.UTC).astimezone().replace(tzinfo=None)
    return abs(now - date) < dt.timedelta(seconds=5)


def _span(start: dt.datetime | None, end: dt.datetime | None) -> Times:
    """Dates as microseconds; a date without a zone is UTC, whatever the machine's zone."""
    first, last = (None if date is None else since_epoch(make_tzaware(date)) for date in (start, end))
    return Times(first, last)


def _pull(
    config: RepoConfig,
    source: DataSource,
    *,
    keys: list[str],
    features: list[str],
    times: tuple[str, str | None],
    span: Times,
    latest: bool,
) -> PointInTimeRetrievalJob:
    event_time, created_time = times
    named = [*keys, *features, event_time, *([created_time] if created_time else [])]
    read = RowsRead(
        reader=_settings(config).reader(config),
        source=file_source(source),
        keys=tuple(keys),
        columns=tuple(dict.fromkeys(named)) if features else (),
        event_time=event_time,
        created_time=created_time or None,
        span=span,
        latest=latest,
    )
    return PointInTimeRetrievalJob(read, engine=_settings(config).engine())


def _target(config: RepoConfig, source: DataSource | None) -> FileTarget:
    declared = file_source(source)
    return FileTarget(declared, _settings(config).reader(config).absolute(declared.path))
