"""`ml-platform metrics`: tells Prometheus how the assets fare, at every scrape, once, or in a file."""

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ml_platform.cli.output import say, telling_errors, write_text
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.json_logs import log_as_json
from ml_platform.kernel.settings import Settings, settings

if TYPE_CHECKING:  # they take seconds to load
    import dagster as dg
    from prometheus_client import CollectorRegistry

    from ml_platform.asset_metrics.collector import StoreCollector

_ONCE_S = 60.0
"""How long what is read once may take: loading the registry's client alone is seconds."""


def metrics(
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
    textfile: Annotated[
        Path | None,
        typer.Option(help="Write them to a .prom file and end, for node_exporter's textfile collector."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9464,
) -> None:
    """Tell Prometheus how the assets fare: what was made when, checks, drift, freshness, champions, what waits.

    Serves them at /metrics until it is stopped. The stores are asked at a
    scrape, at most every five seconds; one that does not answer is told as
    ml_platform_up 0, and the others all the same. docs/metrics.md has the table.
    """
    console = Console(stderr=True)
    with telling_errors(console):
        if once and textfile is not None:
            raise InputError("either --once or --textfile is required, not both. Nothing was read")
        if textfile is not None and textfile.suffix != ".prom":
            raise InputError(
                f"--textfile: a name that ends in .prom is required, others are not read by node_exporter; got "
                f"{textfile}. Nothing was written"
            )
        if once:
            print(_text(), end="")
        elif textfile is not None:
            _replace(textfile, _text())
        else:
            _serve(host, port, console)


def _collector(*, patience_s: float) -> "StoreCollector":
    from ml_platform.asset_metrics.collector import StoreCollector
    from ml_platform.asset_metrics.declared import Declared
    from ml_platform.asset_metrics.readings import asset_readings

    here = settings().prepare()
    # MLflow's own seven attempts of two minutes are longer than anybody waits for a scrape.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    return StoreCollector(asset_readings(Declared.now(), here, _Opened(here)), patience_s=patience_s)


def _registry(collector: "StoreCollector") -> "CollectorRegistry":
    """A registry of its own, so that nothing else of this process is told."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(collector)
    return registry


class _Opened:
    """The Dagster instance of a home, opened by the first who asks for it, and again if its database did not answer."""

    def __init__(self, here: Settings) -> None:
        self._here, self._lock = here, threading.Lock()
        self._instance: dg.DagsterInstance | None = None

    def __call__(self) -> "dg.DagsterInstance":
        from ml_platform.cli.instance import open_instance

        with self._lock:
            if self._instance is None:
                self._instance = open_instance(self._here)
            return self._instance


def _text() -> str:
    from prometheus_client import generate_latest

    return generate_latest(_registry(_collector(patience_s=_ONCE_S))).decode()


def _replace(path: Path, text: str) -> None:
    """Write a file in one step: who reads it meanwhile has the one before, whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    write_text(unfinished, text)
    unfinished.replace(path)


def _serve(host: str, port: int, console: Console) -> None:
    """Answer scrapes until somebody stops the process."""
    from prometheus_client import start_http_server

    from ml_platform.asset_metrics.collector import PATIENCE_S

    log_as_json()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    collector = _collector(patience_s=PATIENCE_S)
    collector.answers(_ONCE_S)  # loads the stores' clients, before the first scrape waits for it
    try:
        server, thread = start_http_server(port, host, _registry(collector))
    except OSError as err:
        raise InputError(
            f"an address that is free and of this machine is required: {host}:{port}: {err}. Nothing is served; "
            f"take another --host or --port"
        ) from err
    say(console, f"metrics of {settings().root}: http://{host}:{server.server_port}/metrics")
    stopped.wait()
    server.shutdown()
    thread.join()
