"""A registry that is not there is told within seconds, and one that comes back meanwhile has answered."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.connection import prepare
from tests.http_server import Quiet, answering

SOON = 40.0
"""Seconds: a question may take 20, and loading MLflow as many; MLflow's own patience is 100 or more."""


def of(home: Path, uri: str) -> Settings:
    return Settings(home=home, mlflow_tracking_uri=uri)


def patience() -> dict[str, str]:
    """What MLflow reads when it logs."""
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_HTTP_")}


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and answers nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=32) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_registry_that_takes_questions_and_answers_none_is_told_soon(silent: str, tmp_path: Path) -> None:
    before, began = patience(), time.monotonic()
    with pytest.raises(StoreError, match=rf"{silent}: the model registry is required"):
        registry.champion(of(tmp_path, silent), "fraud")
    assert time.monotonic() - began < SOON
    assert patience() == before, "what a training logs keeps MLflow's own patience"


def test_a_step_that_will_log_is_told_before_it_trains(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(StoreError, match="the model registry is required"):
            prepare(of(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}"))
        assert time.monotonic() - began < SOON


def test_a_database_that_is_not_there_is_told_soon_and_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"postgresql://mlflow:hunter2@127.0.0.1:{taken.getsockname()[1]}/mlflow"
        began = time.monotonic()
        with pytest.raises(StoreError, match="the model registry is required") as told:
            registry.champion(of(tmp_path, uri), "fraud")
        assert time.monotonic() - began < SOON
    assert "hunter2" not in f"{told.value} {of(tmp_path, uri)!r}"


class Restarting(Quiet):
    """A registry that answers its third question, as one behind a proxy does that restarts."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        ready = type(self).asked > 2
        body = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}).encode()
        self.send_response(404 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_registry_that_is_back_within_seconds_has_answered(tmp_path: Path) -> None:
    with answering(Restarting) as port:
        assert registry.champion(of(tmp_path, f"http://127.0.0.1:{port}"), "fraud") is None
    assert Restarting.asked == 3
