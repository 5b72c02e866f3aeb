"""Servers that a benchmark starts with the commands that users type, and ends whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.load import HOST

_STARTS_WITHIN = 180.0
_ENDS_WITHIN = 20.0


@dataclass(frozen=True)
class Server:
    """A process that answers on a port, and what it has said."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """What it answers to a GET; URLError (HTTPError is one) when it does not."""
        request = urllib.request.Request(f"http://{HOST}:{self.port}{path}", headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()

    def rss_mb(self) -> float:
        """Resident memory of the process and all that it started, in MB of 10^6 bytes."""
        import psutil

        process = psutil.Process(self.process.pid)
        family = [process, *process.children(recursive=True)]
        return round(sum(member.memory_info().rss for member in family) / 1_000_000, 1)

    def cpu_seconds(self) -> float:
        """Seconds of processor that the process and all that it started have had so far."""
        import psutil

        process = psutil.Process(self.process.pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.cpu_times().user + member.cpu_times().system for member in family)


@contextmanager
def serving(
    name: str,
    *command: str,
    port: int,
    health: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a command of this environment until the end of the block, from when its health address answers."""
    bin_folder = Path(sys.executable).parent
    log = folder / f"{name}.log"
    path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(bin_folder / command[0]), *command[1:]],
            env={**os.environ, "PATH": path, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, port, process, log)
    try:
        _wait(server, health)
        yield server
    finally:
        _end(process)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _wait(server: Server, health: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        with suppress(OSError):
            server.get(health)
            return
        if server.process.poll() is not None or time.monotonic() > deadline:
            said = server.log.read_text(errors="replace")[-3000:]
            sys.exit(f"{server.name} did not answer {health} ({server.process.poll()}):\n{said}")
        time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started; at once, if it does not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDS_WITHIN)
            if how is signal.SIGTERM:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it
            return
