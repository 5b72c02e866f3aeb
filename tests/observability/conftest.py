"""A built platform that is served and exported by their real processes, and scraped by a real Prometheus."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.built import opened_copy
from tests.cli.test_metrics import measured
from tests.observability.prometheus import Prometheus, exporter, scraping
from tests.observability.rules import tool
from tests.serving.processes import ServiceProcess
from tests.serving.served import NOBODY, OTHER, ROW
from tests.support import LAST_DAY

PAST_TTL = "2018-07-05T12:00:00"


@pytest.fixture(scope="module")
def prometheus(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Everything that the platform tells, while somebody asks for predictions from values that are past their ttl."""
    tool("prometheus")  # before anything is started
    with opened_copy(built_once) as platform, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_PLATFORM_SERVING__AT", PAST_TTL)
        patch.setenv("ML_PLATFORM_SERVING__SHADOW", "challenger")
        measured(platform, LAST_DAY, value=0.5)
        with exporter() as assets, _served() as service:
            jobs = {"asset-metrics": assets, "serving": f"127.0.0.1:{service.port}"}
            with scraping(tmp_path_factory.mktemp("prometheus"), jobs) as found:
                yield found


@contextmanager
def _served() -> Iterator[ServiceProcess]:
    service, stopped = ServiceProcess({}), threading.Event()
    try:
        service.start()
        asking = threading.Thread(target=_ask, args=(service.port, stopped), daemon=True)
        asking.start()
        yield service
        stopped.set()
        asking.join(60)
    finally:
        service.stop()


def _ask(port: int, stopped: threading.Event) -> None:
    """Ask for predictions, and for one that is refused, until somebody stops it."""
    while not stopped.wait(0.2):
        for rows in ([ROW, OTHER, NOBODY], [{**ROW, "amount": "much"}]):
            _post(port, {"instances": rows})


def _post(port: int, body: Any) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/fraud:predict",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()
