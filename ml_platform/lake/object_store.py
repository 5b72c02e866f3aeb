"""How DuckDB reads an object store: through Arrow's client, as reports do, so that one set of variables serves all.

DuckDB's own extension would have to be fetched when it is first needed, and takes its credentials another way than the
Delta log. Commits are made by the Delta log's owner with conditional puts; no table of locks is needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Lock, local
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.fs as pa_fs
from cachetools import TTLCache
from fsspec import AbstractFileSystem
from fsspec.implementations.arrow import ArrowFSWrapper

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import settings

_KNOWN_FOR = 60.0
"""Seconds for which a file is not looked at again: DuckDB asks four times for its size and age when it opens it, and
no file of the lake ever changes."""


class S3(ArrowFSWrapper):
    """An S3-compatible store, as AWS's standard variables say; nobody connects before a file is opened."""

    protocol = "s3"  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self) -> None:
        AbstractFileSystem.__init__(self)
        self._looked: TTLCache[str, dict[str, Any]] = TTLCache(10_000, _KNOWN_FOR)
        self._looking = Lock()

    @cached_property
    def fs(self) -> pa_fs.FileSystem:
        # Made without a URI it would not know AWS_ENDPOINT_URL, and without a region it would ask AWS for the bucket's.
        store, _ = pa_fs.FileSystem.from_uri(f"s3://any?region={settings().region or 'us-east-1'}")
        return store

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        with self._looking:
            found = self._looked.get(path)
        if found is None:
            found = super().info(path, **kwargs)
            with self._looking:
                self._looked[path] = found
        return found

    def modified(self, path: str) -> Any:
        return self.info(path)["mtime"]

    def _open(self, path: str, *_: Any, **kwargs: Any) -> Any:
        return _File(self, path)


class _File:
    """A file of the store, opened when it is first read: of most that DuckDB opens it only wants the size.

    Its threads share one, and say where to read before each read: every thread has a place of its own.
    """

    def __init__(self, store: S3, path: str) -> None:
        self._store, self._path = store, path
        self._here, self._opening = local(), Lock()
        self._opened: pa.NativeFile | None = None

    def _file(self) -> pa.NativeFile:
        with self._opening:
            if self._opened is None:
                self._opened = self._store.fs.open_input_file(self._path)
            return self._opened

    def seek(self, offset: int) -> int:
        self._here.offset = offset
        return offset

    def tell(self) -> int:
        return getattr(self._here, "offset", 0)

    def read(self, size: int) -> bytes:
        found = self._file().read_at(size, self.tell())
        self._here.offset = self.tell() + len(found)
        return found

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a database read files whose URIs begin with `s3://`."""
    connection.register_filesystem(S3())


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Tell whatever the store of an address answers in the place of what was asked: StoreError."""
    try:
        yield
    except OSError as err:
        raise StoreError(
            f"{uri}: the store of the lake is required and does not answer as it should: {err}. Nothing was read or "
            f"written; see that it is there and that this process may use it"
        ) from err


def require_bucket(store: pa_fs.FileSystem, path: str) -> None:
    """FileNotFoundError where nothing is found because there is no bucket: to Arrow an empty one is the same."""
    bucket = path.split("/")[0]
    try:
        missing = store.get_file_info(bucket).type == pa_fs.FileType.NotFound
    except OSError:  # the store has just answered: this key may ask for what is below its prefix alone
        return
    if missing:
        raise FileNotFoundError(f"there is no bucket {bucket}, or it is not to be seen")
