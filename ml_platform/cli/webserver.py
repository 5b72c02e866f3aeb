"""Dagster's webserver, which knows who asks: the authenticating proxy before it says so in a header.

Dagster's own takes the tags of a run from whoever launches it. Here the name of the person is written over them, for
single runs, re-executions and backfills alike, before anything is launched.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from ml_platform.cli.output import telling_errors
from ml_platform.kernel.settings import settings


def webserver(
    workspace: Annotated[Path, typer.Option(help="The file that names the code locations.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Launch nothing and change nothing, whoever asks.")
    ] = False,
    log_format: Annotated[
        Literal["colored", "json", "rich"], typer.Option(help="How its log looks.")
    ] = "colored",
) -> None:
    """Dagster's UI, whose runs carry who launched them where ML_PLATFORM_USER_HEADER says how a proxy names people."""
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster._utils.interrupts import setup_interrupt_handlers
    from dagster._utils.log import configure_loggers
    from dagster_webserver import cli as stock
    from dagster_webserver.version import __version__

    from ml_platform.cli.instance import open_instance
    from ml_platform.cli.signed_in import SignedInWorkspace

    here = settings()
    with telling_errors(Console(stderr=True)):
        opened = open_instance(here)
    configure_loggers(formatter=log_format)
    setup_interrupt_handlers()
    with opened as instance:
        instance.optimize_for_webserver(
            stock.DEFAULT_DB_STATEMENT_TIMEOUT, stock.DEFAULT_POOL_RECYCLE, stock.DEFAULT_POOL_MAX_OVERFLOW
        )
        told = {"header": here.user_header, "version": __version__, "read_only": read_only}
        with SignedInWorkspace(instance, WorkspaceFileTarget([str(workspace)]), **told) as asked:
            stock.host_dagster_ui_with_workspace_process_context(asked, host, port, "", "warning", 2000)
