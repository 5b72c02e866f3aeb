"""A webhook that is a real server, and someone who looks on its behalf at what the toy graph does."""

import datetime as dt
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest
from tenacity import wait_none

from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.kernel.partitions import ONE_DAY
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.tables import Lake
from ml_platform.notifications import delivery
from ml_platform.notifications.events import Scope
from ml_platform.notifications.look import tell
from ml_platform.notifications.spec import WebhookSpec
from tests.built import platform
from tests.lifecycle.conftest import shared_instance, toys
from tests.lifecycle.toys import BOUND, LAST, RETRAIN, Toys

__all__ = ["platform", "shared_instance", "toys"]

LATER = dt.datetime.combine(LAST + 30 * ONE_DAY, dt.time(12), tzinfo=dt.UTC)
"""When the toys' source has ended long ago, so that no model is late."""


@dataclass
class Hook:
    """What was posted, oldest first, and what the next requests are answered: 200 when nothing else is said."""

    url: str
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [body for _, body in self.requests]

    def take(self) -> list[dict[str, Any]]:
        """What was posted since the last time, whatever was answered."""
        told = self.told
        self.requests.clear()
        return told


@dataclass
class Teller:
    """A webhook's sensor with its cursor, on a graph of toys."""

    toys: Toys
    scope: Scope
    settings: Settings
    hook: Hook
    cursor: str | None = None

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_uri)

    def look(self, now: dt.datetime = LATER) -> list[dict[str, Any]]:
        """Look once; what was posted."""
        self.cursor, self.words = tell(
            self.scope, self.toys.instance, self.settings, cursor=self.cursor, now=now
        )
        return self.hook.take()

    def evaluated(
        self, asset: str, *partitions: str, passed: bool = False, observed: str = "7 of 100 rows break it"
    ) -> None:
        """Report, without a run, that partitions are published and were evaluated."""
        instance, key = self.toys.instance, dg.AssetKey(asset.split("/"))
        (check,) = self.toys.catalog.node(asset).blocking_checks
        for partition in partitions:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))
        targets = materialization_targets(instance, key, partitions)
        for partition in partitions:
            found = Evaluation(check.name, passed=passed, observed=observed, bound=BOUND)
            report_evaluation(instance, evaluation_event(key, partition, found, targets[partition]))

    def declared(self, **changed: object) -> "Teller":
        """The same under another declaration."""
        spec = WebhookSpec.model_validate({"name": "on_call", **changed})
        return replace(self, scope=replace(self.scope, spec=spec))


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A server on this machine whose address is set for the webhook `on_call`; nobody waits between attempts."""
    monkeypatch.setattr(delivery, "WAIT", wait_none())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Hook("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.answers.pop(0) if found.answers else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/services/secret-path"
    monkeypatch.setenv("ML_PLATFORM_WEBHOOKS__ON_CALL", found.url)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def teller(toys: Toys, home: Settings, hook: Hook) -> Teller:
    """Someone who has looked once already, when nothing had happened."""
    scope = Scope(
        WebhookSpec(name="on_call"), toys.catalog.lineage, frozenset({toys.model}), {toys.model: RETRAIN}
    )
    found = Teller(toys, scope, settings(), hook)
    assert found.look() == []
    return found
