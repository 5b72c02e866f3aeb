"""The service as its own process, started by the command that users type."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_STARTS_WITHIN = 180.0  # ten seconds on a machine that has nothing else to do


class ServiceProcess:
    """One worker, which can be killed and started again on the same port, and for which the disk can be full."""

    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        self._environment, self._arguments = environment, arguments
        self.port = 0
        self.said: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        command = [str(Path(sys.executable).with_name("ml-platform")), "serve", "--without-keys"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self._environment},
        )
        self._reader = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._reader.start()
        self._until(lambda: self.port > 0)
        self._until(lambda: self.answers("/readyz"))

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def get(self, path: str) -> str:
        """What it answers to a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def answers(self, path: str) -> bool:
        """Whether it answers a GET with success."""
        with contextlib.suppress(urllib.error.URLError, OSError):
            self.get(path)
            return True
        return False

    def model(self) -> dict[str, Any]:
        """How its one model is served."""
        (found,) = json.loads(self.get("/v1/models"))["models"]
        return found

    def metric(self, name: str, **labels: str) -> float:
        """A metric of the service, summed over the labels that are not given."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self.get("/metrics").splitlines() if not line.startswith("#")]
        values = [line.rpartition(" ") for line in lines]
        named = [
            (key, value) for key, _, value in values if key.partition("{")[0] == f"ml_platform_serving_{name}"
        ]
        return sum(float(value) for key, value in named if all(label in key for label in wanted))

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """No file that it writes to may have a byte more until the end of the block: works for everybody, root too."""
        assert self._process is not None
        limits = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limits)

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            if line.startswith("serving on http://"):
                self.port = int(line.rpartition(":")[2])
        process.stdout.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None
        if self._reader is not None:
            self._reader.join(10)

    def _until(self, holds: Any) -> None:
        deadline = time.monotonic() + _STARTS_WITHIN
        while not holds():
            assert self._process is not None
            assert self._process.poll() is None, "".join(self.said)
            assert time.monotonic() < deadline, "".join(self.said)
            time.sleep(0.05)
