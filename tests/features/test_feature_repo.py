"""`feature_repo/` is a Feast repository: Feast's own commands see, apply and serve what is declared."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_platform import declarations
from ml_platform.features.store import store_config
from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from ml_platform.online.store import apply_registry
from tests.built import CUSTOMERS, TERMINALS, Platform
from tests.support import LAST_DAY

REPO = PROJECT_ROOT / "feature_repo"
FEAST = Path(sys.executable).with_name("feast")
SECONDS_TO_START = 60


def copied_repo(home: Settings) -> Path:
    """A copy of the feature repository inside a home, whose embedded paths are those of the home."""
    copy = home.root / "feature_repo"
    shutil.copytree(REPO, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / "feature_store.yaml").read_text()
    assert text.count("../.ml_platform") == 2
    (copy / "feature_store.yaml").write_text(text.replace("../.ml_platform", str(home.root)))
    return copy


def feast(repo: Path, *arguments: str) -> str:
    """What a Feast command prints; it has to succeed."""
    done = subprocess.run([FEAST, *arguments], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shipped_file_says_what_the_default_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_PLATFORM_HOME")
    shipped: dict[str, Any] = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    for section in ("registry", "online_store"):
        *scheme, path = shipped[section]["path"].split(":///")
        shipped[section]["path"] = ":///".join([*scheme, str((REPO / path).resolve())])
    assert shipped == store_config(Settings())


def test_what_the_platform_applied_leaves_feast_plan_nothing_to_change(home: Settings) -> None:
    apply_registry(home, declarations.load())
    planned = feast(copied_repo(home), "plan")
    assert "No changes to registry" in planned
    assert not {"Created", "Deleted", "Updated"} & set(planned.split("No changes to registry")[0].split())


def test_feast_apply_works_in_a_fresh_checkout_and_lists_every_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path / ".ml_platform"))
    fresh = shutil.copytree(REPO, tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    applied = feast(fresh, "apply")
    for service in ("fraud_scoring", "demand_forecasting"):
        assert f"Created feature service {service}" in applied
    listed = feast(fresh, "feature-views", "list")
    views = ("customer_spending", "terminal_risk", "place_demand", "region_demand")
    for name in (*views, "transaction_context", "slot_context"):
        assert name in listed


def test_feast_apply_keeps_what_is_online_and_feast_serve_answers_with_it(shared: Platform) -> None:
    repo = copied_repo(shared.settings)
    assert "Deleted" not in feast(repo, "apply")
    customer = shared.rows(CUSTOMERS, LAST_DAY).slice(7, 1).to_pylist()[0]
    terminal = shared.rows(TERMINALS, LAST_DAY).slice(3, 1).to_pylist()[0]
    request = {
        "feature_service": "fraud_scoring",
        "entities": {
            "customer_id": [customer["customer_id"]],
            "terminal_id": [terminal["terminal_id"]],
            "amount": [50.0],
            "transaction_time": [1530007200],  # 2018-06-26 10:00 UTC, a Tuesday
        },
    }
    with served(repo) as port:
        answer = post(port, "/get-online-features", request)
    names = answer["metadata"]["feature_names"]
    found = {name: result["values"][0] for name, result in zip(names, answer["results"], strict=True)}
    assert found["customer_mean_amount_30d"] == customer["customer_mean_amount_30d"]
    assert found["terminal_transactions_7d"] == terminal["terminal_transactions_7d"]
    assert found["amount_over_mean_30d"] == pytest.approx(50 / customer["customer_mean_amount_30d"])
    assert (found["is_night"], found["is_weekend"]) == (0, 0)


@contextmanager
def served(repo: Path) -> Iterator[int]:
    """`feast serve` on a free port, ready to answer; ended with all its workers at the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = repo / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [FEAST, "serve", "--port", str(port)],
            cwd=repo,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, port, log)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _wait_until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if get_status(port, "/health") == 200:
                return
        except OSError:
            time.sleep(0.2)  # nothing listens yet
    raise AssertionError(f"feast serve did not get ready:\n{log.read_text()}")


def get_status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def post(port: int, path: str, body: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        return json.loads(text)
    finally:
        connection.close()
