"""The service on a real socket in this process, over versions that a test holds itself."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
import uvicorn

from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.model_registry import registry
from ml_platform.serving.app import application
from ml_platform.serving.compute import ViewRows
from ml_platform.serving.keys import Keys
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.service import Served
from ml_platform.serving.slots import Status
from ml_platform.serving.versions import Loaded, load

AT = "2018-06-27T12:00:00+00:00"
ROW = {"customer_id": 1, "terminal_id": 2, "amount": 55.0, "transaction_time": 1530000000}
OTHER = {"customer_id": 5, "terminal_id": 7, "amount": 240.5, "transaction_time": 1530051000}
NOBODY = {**ROW, "customer_id": 987_654_321}


@pytest.fixture(scope="module")
def champion(looked_at: Settings) -> Loaded:
    """The version that the tests of a module ask."""
    found = registry.champion(looked_at, "fraud")
    assert found is not None
    return load(looked_at, found)


@dataclass
class Held:
    """Versions that change only when the test says so."""

    served: dict[str, Served]
    waiting: set[str] = field(default_factory=set)
    """Models that are to be served and have no version yet."""

    def current(self, name: str) -> Served | None:
        return self.served.get(name)

    def status(self) -> list[Status]:
        return [self._status(name) for name in sorted({*self.served, *self.waiting})]

    def shadows(self) -> list[Status]:
        return []

    def ready(self) -> bool:
        return bool(self.served) and not self.waiting

    def _status(self, name: str) -> Status:
        found = self.served.get(name)
        return Status(
            model=name,
            role="champion",
            version=found.version if found else None,
            run_id=found.run_id if found else None,
            partition=None,
            origin="registry" if found else None,
            since=None,
            wanted=found.version if found else None,
            refused=None,
            registry=True,
            problems=() if found else ("no version can be served",),
        )


@dataclass(frozen=True)
class Version:
    """A version like another one, with a part of it replaced."""

    name: str
    version: int
    run_id: str
    contract: Any
    scorer: Any
    features: Any


class Reads:
    """Online features as a test wants them read."""

    def __init__(self, read: Any) -> None:
        self.read = read


def like(served: Served, *, features: Any = None, **contract: Any) -> Version:
    """The same version under another contract, or with another way to read features."""
    said = served.contract.model_copy(update=contract)
    return Version(
        name=said.model,
        version=served.version,
        run_id=served.run_id,
        contract=said,
        scorer=replace(served.scorer, contract=said),
        features=features or served.features,
    )


def reading(times: Mapping[str, int | None], values: Mapping[str, Any], served: Served) -> Reads:
    """Reads that find for every key the same: a time for each view, and values by feature, or None."""

    def read(keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]:
        return [
            ViewRows(
                [times[view.name]] * len(keys),
                {
                    name: [values.get(name) if times[view.name] else None] * len(keys)
                    for name in view.features
                },
            )
            for view in served.contract.views
        ]

    return Reads(read)


@dataclass(frozen=True)
class Running:
    """A service that runs: how to ask it, and what it logged to."""

    port: int
    client: httpx.Client
    log: PredictionLog

    def predict(self, *rows: Mapping[str, Any], model: str = "fraud", **headers: str) -> httpx.Response:
        return self.client.post(
            f"/v1/models/{model}:predict", json={"instances": list(rows)}, headers=headers
        )


def serving(**changed: Any) -> ServingSettings:
    """Settings of a service that answers as of noon of the day after the last of the built home."""
    return ServingSettings.model_validate({"at": AT, "timeout_seconds": 30, "log_seconds": 0.2} | changed)


@contextmanager
def running(
    here: Settings,
    versions: Any,
    *,
    keys: Keys | None = None,
    otlp: str | None = None,
    shadow: Any = None,
    **changed: Any,
) -> Iterator[Running]:
    """The service with these versions, until the end of the block."""
    ours = here.model_copy(update={"serving": serving(**changed), "otlp_endpoint": otlp})
    log = PredictionLog(ours)
    app = application(ours, versions, log, keys=keys, shadow=shadow)
    config = uvicorn.Config(
        app, port=0, loop="uvloop", http="httptools", ws="none", access_log=False, log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Running(port, client, log)
    finally:
        server.should_exit = True
        thread.join(30)
        log.close()
    assert not thread.is_alive()
