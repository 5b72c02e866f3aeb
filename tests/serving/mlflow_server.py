"""A real MLflow server of the tests' own, over the registry of a home."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ml_platform.kernel.settings import Settings

_STARTS_WITHIN = 180.0  # five seconds on a machine that has nothing else to do


class MlflowServer:
    """One server, which can be killed and started again on the same port."""

    def __init__(self, here: Settings) -> None:
        self._uri, self._log = here.tracking_uri, here.root / "mlflow-server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1"]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--backend-store-uri", self._uri]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *address],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,  # its workers go with it
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it and its workers at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            self._process = None

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            assert process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
            return answer.status == 200
        return False


@contextlib.contextmanager
def running_mlflow(here: Settings) -> Iterator[MlflowServer]:
    """A server that runs until the end of the block."""
    server = MlflowServer(here)
    try:
        yield server
    finally:
        server.kill()
