"""How DuckDB reads an object store: through Arrow's client, as reports do, so that one set of variables serves all.

DuckDB's own extension would have to be fetched when it is first needed, and takes its credentials another way than the
Delta log. Commits are made by the Delta log's owner with conditional puts; no table of locks is needed.
"""

from functools import cached_property

import duckdb
import pyarrow.fs as pa_fs
from fsspec import AbstractFileSystem
from fsspec.implementations.arrow import ArrowFSWrapper


class S3(ArrowFSWrapper):
    """An S3-compatible store, as AWS's standard variables say; nobody connects before a file is opened."""

    protocol = "s3"

    def __init__(self) -> None:
        AbstractFileSystem.__init__(self)

    @cached_property
    def fs(self) -> pa_fs.FileSystem:
        return pa_fs.FileSystem.from_uri("s3://any")[
            0
        ]  # made without a URI, it would not know AWS_ENDPOINT_URL


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a database read files whose URIs begin with `s3://`."""
    connection.register_filesystem(S3())
