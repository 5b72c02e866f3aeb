"""`ml-platform up`: the UI, MLflow and the service of one home, started and stopped together."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from ml_platform.cli.output import say, telling_errors
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings, settings

_STARTS_WITHIN = 180  # seconds
_STOPS_WITHIN = 30
_SHOWN_LINES = 15


@dataclass(frozen=True)
class Program:
    """One program: how it is started, and where it answers once it has."""

    name: str
    command: tuple[str, ...]
    address: str
    ready: str


def up(
    ui_port: Annotated[int, typer.Option(help="Port of Dagster's UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
    serving_port: Annotated[int, typer.Option(help="Port of the service.")] = 8080,
) -> None:
    """Start Dagster's UI with its daemon, MLflow and the service on this home; Control-C stops all three.

    They listen on this machine alone, the service without keys. What they say is
    in HOME/logs; when one of them ends, the others are stopped too.
    """
    from ml_platform.cli.instance import prepare_home
    from ml_platform.model_registry.connection import prepare

    console = Console(stderr=True)
    with telling_errors(console):
        here = settings().prepare()
        prepare_home(here)
        prepare(here)  # of a new home, MLflow and the service would both make the tables, and one would fail
        programs = programs_of(here, ui_port=ui_port, mlflow_port=mlflow_port, serving_port=serving_port)
        with running(programs, here.root / "logs") as processes:
            wait_until_ready(programs, processes, console, here.root / "logs")
            say(console, "all three answer; Control-C stops them")
            watch(programs, processes, here.root / "logs")


def programs_of(here: Settings, *, ui_port: int, mlflow_port: int, serving_port: int) -> tuple[Program, ...]:
    """The three programs of a home."""
    ui, mlflow, service = (f"http://127.0.0.1:{port}" for port in (ui_port, mlflow_port, serving_port))
    return (
        Program(
            "Dagster",
            (_beside("dg"), "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(ui_port)),
            ui,
            f"{ui}/server_info",
        ),
        Program(
            "MLflow",
            (
                *(_beside("mlflow"), "server", "--host", "127.0.0.1", "--port", str(mlflow_port)),
                *("--workers", "1", "--backend-store-uri", here.tracking_uri),
                *("--default-artifact-root", here.artifact_root, "--no-serve-artifacts"),
            ),
            mlflow,
            f"{mlflow}/health",
        ),
        Program(
            "the service",
            (_beside("ml-platform"), "serve", "--port", str(serving_port), "--without-keys"),
            service,
            f"{service}/healthz",
        ),
    )


@contextlib.contextmanager
def running(programs: Sequence[Program], logs: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The programs' processes, each with a log of its name; all are stopped at the end of the block."""
    logs.mkdir(parents=True, exist_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    ended = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways of ending are one
    try:
        for program in programs:
            with _log(program, logs).open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        program.command,
                        cwd=settings().declared_in.root,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Control-C is ours to pass on
                        env={
                            **os.environ,
                            "MLFLOW_DISABLE_TELEMETRY": "true",
                            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                        },
                    )
                )
        yield processes
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes:
            _stop(process)
        signal.signal(signal.SIGTERM, ended)


def wait_until_ready(
    programs: Sequence[Program], processes: Sequence[subprocess.Popen[bytes]], console: Console, logs: Path
) -> None:
    """Say each address once it answers; StoreError when a program ends before, or takes minutes."""
    deadline = time.monotonic() + _STARTS_WITHIN
    waiting = list(programs)
    while waiting:
        _require_alive(programs, processes, logs)
        for program in [found for found in waiting if _answers(found)]:
            say(console, f"{program.name:<12} {program.address}")
            waiting.remove(program)
        if waiting and time.monotonic() > deadline:
            names = " and ".join(program.name for program in waiting)
            raise StoreError(f"an answer of {names} within {_STARTS_WITHIN} s is required; see {logs}")
        time.sleep(0.2)


def watch(programs: Sequence[Program], processes: Sequence[subprocess.Popen[bytes]], logs: Path) -> None:
    """Return never; StoreError when one of the programs has ended."""
    while True:
        _require_alive(programs, processes, logs)
        time.sleep(1)


def _require_alive(
    programs: Sequence[Program], processes: Sequence[subprocess.Popen[bytes]], logs: Path
) -> None:
    for program, process in zip(programs, processes, strict=True):
        if process.poll() is not None:
            last = _log(program, logs).read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
            raise StoreError(
                f"{program.name} has ended with exit code {process.returncode}; the others are stopped. It said:\n"
                + "\n".join(last)
            )


def _answers(program: Program) -> bool:
    try:
        return httpx.get(program.ready, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a program and all that it has started to end, and end them if they take too long."""
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOPS_WITHIN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what its own children left


def _log(program: Program, logs: Path) -> Path:
    return logs / f"{program.name.split()[-1].lower()}.log"


def _beside(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
