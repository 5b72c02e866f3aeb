"""The webserver as its own process, started by the command that the manifests give, and asked over HTTP."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.dagster_ui import Buttons
from tests.redis_server import free_port

HEADER = "X-Forwarded-Email"
LOCATION = "of-the-tests"
_PATIENCE = 240.0
"""Seconds that a busy machine may take for a run of one step."""
_STARTS_WITHIN = 180.0  # ten seconds on a machine that has nothing else to do


@dataclass(frozen=True)
class Webserver(Buttons):
    """A running webserver, and the headers that requests to it have."""

    port: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def asked_with(self, headers: Mapping[str, str]) -> "Webserver":
        """The same, asked with other headers."""
        return replace(self, headers=headers)

    def signed_in(self, person: str) -> "Webserver":
        """The same, asked through a proxy by somebody who has signed in."""
        return self.asked_with({HEADER: person})

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": dict(variables)}).encode(),
            headers={"Content-Type": "application/json", **self.headers},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    @property
    def repository(self) -> dict[str, str]:
        return {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}


@contextmanager
def webserver(
    home: Path, *options: str, definitions: str, header: str | None, location: str = LOCATION
) -> Iterator[Webserver]:
    """A webserver on the instance of a home, with one code location: `module` or `module:attribute`."""
    module, _, attribute = definitions.partition(":")
    target = {"module_name": module, "location_name": location} | (
        {"attribute": attribute} if attribute else {}
    )
    workspace = home / "workspace.yaml"
    workspace.write_text(yaml.safe_dump({"load_from": [{"python_module": target}]}))
    port = free_port()
    command = [sys.executable, "-c", "from ml_platform.cli.main import app; app()", "webserver"]
    environment = {**os.environ, "ML_PLATFORM_HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT)}
    if header is not None:
        environment["ML_PLATFORM_USER_HEADER"] = header
    with (home / "webserver.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--workspace", str(workspace), "--port", str(port), *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, port, home / "webserver.log")
            yield Webserver(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            _end(process.pid)


def _end(group: int) -> None:
    """End what the webserver has started too, which would go on writing to a home that is removed."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.05)


def at_once(home: Path) -> Path:
    """The same home, where what is launched waits for no daemon."""
    with (home / "dagster" / "dagster.yaml").open("a") as config:
        config.write(
            "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"
        )
    return home


def finished(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    """How a run ended, once it has."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        if run.is_finished:
            return run.status
        assert time.monotonic() < deadline, [record.message for record in instance.all_logs(run_id)]
        time.sleep(0.1)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5),
        ):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
