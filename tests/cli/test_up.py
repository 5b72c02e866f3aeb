"""One command starts what a person works with, and stops all of it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def start(home: Path, ui: int, mlflow: int, serving: int) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("ml-platform")), "up"]
    ports = ["--ui-port", str(ui), "--mlflow-port", str(mlflow), "--serving-port", str(serving)]
    return subprocess.Popen(
        [*command, *ports],
        env={**os.environ, "ML_PLATFORM_HOME": str(home)},
        stderr=subprocess.PIPE,
        text=True,
    )


def said_until(process: subprocess.Popen[str], words: str) -> str:
    """What the command says up to a line with some words, or to its end."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            break
    return said


def answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_all_three_answer_where_they_are_said_to_and_end_together(
    tmp_path: Path, how: signal.Signals
) -> None:
    ui, mlflow, serving = free_ports(3)
    process = start(tmp_path / "home", ui, mlflow, serving)
    try:
        said = said_until(process, "all three answer")
        for port in (ui, mlflow, serving):
            assert f"http://127.0.0.1:{port}" in said, said
        asked = {"query": "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }"}
        told = httpx.post(f"http://127.0.0.1:{ui}/graphql", json=asked, timeout=30).json()
        assert told["data"]["workspaceOrError"]["locationEntries"][0]["loadStatus"] == "LOADED"
        assert httpx.get(f"http://127.0.0.1:{mlflow}/health", timeout=30).text == "OK"
        assert httpx.get(f"http://127.0.0.1:{serving}/v2/health/live", timeout=30).is_success
    finally:
        process.send_signal(how)
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert not any(map(answers, (ui, mlflow, serving)))


def test_when_one_of_them_cannot_start_it_is_said_and_the_others_are_stopped(tmp_path: Path) -> None:
    ui, mlflow, serving = free_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", serving))
        taken.listen()
        process = start(tmp_path / "home", ui, mlflow, serving)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "the service has ended with exit code" in said and "address" in said.lower(), said
    assert not answers(ui) and not answers(mlflow)
