"""Writes results and new rows where a Feast file source points: a Parquet file, a Parquet folder, a Delta table."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_utils import cast_arrow_table_to_schema
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from ml_platform.features.feast_sources import is_delta
from ml_platform.kernel.errors import InputError, StoreError

_HIVE = "hive"


class ColumnsDifferError(InputError, ValueError):
    """Rows to append do not have the columns of the source; also the ValueError that Feast promises."""


@dataclass(frozen=True)
class FileTarget:
    """Where a file source's rows are, absolute."""

    source: FileSource
    location: str

    def schema(self) -> pa.Schema:
        """Columns and Arrow types of what is there, partition columns included. Raises StoreError if nothing is."""
        try:
            if self._is_delta:
                return pa.schema(DeltaTable(self.location).schema().to_arrow())
            return self._dataset().schema
        except (FileNotFoundError, TableNotFoundError) as err:
            raise StoreError(
                f"{self.source.path}: rows are required here, to know their columns; "
                f"nothing is at {self.location}; write the source first"
            ) from err

    def check_free(self, *, allow_overwrite: bool) -> None:
        """Raise Feast's SavedDatasetLocationAlreadyExists if rows are there and must stay."""
        filesystem, path = self._filesystem()
        kind = filesystem.get_file_info(path).type
        taken = kind == FileType.File or (
            kind == FileType.Directory and filesystem.get_file_info(FileSelector(path, recursive=False)) != []
        )
        if taken and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=self.source.path)

    def replace(self, rows: pa.RecordBatchReader) -> None:
        """Write the rows in place of what is there; of a Parquet folder the old files go last."""
        if self._is_delta:
            write_deltalake(self.location, rows, mode="overwrite", schema_mode="overwrite")
            return
        filesystem, path = self._filesystem()
        if path.endswith(".parquet"):
            _write_file(filesystem, path, rows)
            return
        filesystem.create_dir(path, recursive=True)
        old = filesystem.get_file_info(FileSelector(path, recursive=True))
        _write_file(filesystem, f"{path}/{uuid.uuid4().hex}.parquet", rows)
        for file in old:
            if file.type == FileType.File and file.path.endswith(".parquet"):
                filesystem.delete_file(file.path)

    def append(self, rows: pa.Table) -> None:
        """Add rows, cast to the types that are there. Raises ColumnsDifferError if names or order differ."""
        schema = self.schema()
        if rows.column_names != schema.names:
            raise ColumnsDifferError(
                f"{self.source.path}: rows with columns {schema.names} are required, in this order; "
                f"got {rows.column_names}; nothing was written"
            )
        rows = cast_arrow_table_to_schema(rows, schema)
        if self._is_delta:
            write_deltalake(self.location, rows, mode="append")
            return
        filesystem, path = self._filesystem()
        if filesystem.get_file_info(path).type == FileType.File:
            old = self._dataset().scanner().to_reader()
            batches = (batch for part in (old, rows.to_batches()) for batch in part)
            _write_file(filesystem, path, pa.RecordBatchReader.from_batches(schema, batches))
            return
        self.add_files(rows, partition_by=_partition_names(self._dataset(), path))

    def add_files(self, rows: pa.Table | ds.Dataset, *, partition_by: Sequence[str]) -> None:
        """Add rows to a Parquet folder as new files, in folders named by the partition columns."""
        filesystem, path = self._filesystem()
        ds.write_dataset(
            rows,
            path,
            filesystem=filesystem,
            format="parquet",
            basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
            partitioning=list(partition_by) or None,
            partitioning_flavor=_HIVE if partition_by else None,
            existing_data_behavior="overwrite_or_ignore",
        )

    @property
    def _is_delta(self) -> bool:
        return is_delta(self.source, self.location)

    def _filesystem(self) -> tuple[FileSystem, str]:
        filesystem, path = FileSource.create_filesystem_and_path(
            self.location, self.source.s3_endpoint_override or "", self.source.resolve_credentials()
        )
        return filesystem or LocalFileSystem(), path.rstrip("/")

    def _dataset(self) -> ds.Dataset:
        filesystem, path = self._filesystem()
        folder = filesystem.get_file_info(path).type == FileType.Directory
        return ds.dataset(
            path, filesystem=filesystem, format="parquet", partitioning=_HIVE if folder else None
        )


def _partition_names(dataset: ds.Dataset, folder: str) -> list[str]:
    """Partition columns of a Parquet folder, from the names of the folders of its first file."""
    first = next(iter(getattr(dataset, "files", [])), folder)
    return [part.partition("=")[0] for part in PurePath(first).relative_to(folder).parts[:-1] if "=" in part]


def _write_file(filesystem: FileSystem, path: str, rows: pa.RecordBatchReader) -> None:
    """Write one Parquet file beside the path, then move it there."""
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    parent = str(PurePath(path).parent)
    filesystem.create_dir(parent, recursive=True)
    try:
        with pq.ParquetWriter(partial, rows.schema, filesystem=filesystem) as writer:
            for batch in rows:
                writer.write_batch(batch)
    except BaseException:
        filesystem.delete_file(partial)
        raise
    filesystem.move(partial, path)
