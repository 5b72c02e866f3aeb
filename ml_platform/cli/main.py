"""The `ml-platform` command."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ml_platform.cli.completing import names_of
from ml_platform.cli.loading import CommandsOnDemand
from ml_platform.cli.output import Json, telling_errors
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import settings

app = typer.Typer(
    cls=CommandsOnDemand,
    help="Features, training sets, drift profiles and models as gated assets.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@app.command()
def demo(
    scale: Annotated[float, typer.Option(min=0.01, help="Size of the simulated world.")] = 1.0,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Days of history; default: what demo.yaml of the declarations says."),
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Files to use instead of the simulator.")] = None,
    reset: Annotated[
        bool, typer.Option(help="Remove what an earlier demo left below ML_PLATFORM_HOME.")
    ] = False,
    as_json: Json = False,
) -> None:
    """From raw events to a served prediction, through Dagster, and two bad days that are refused."""
    from ml_platform.cli import demo as job
    from ml_platform.cli.instance import remove_home
    from ml_platform.cli.summary import existing_summary, print_summary, require_same_options

    console = Console(stderr=as_json)
    with telling_errors(console):
        here = settings()
        if reset:
            remove_home(here)
        options = job.Options(scale, days, tuple(source or ()))
        done = existing_summary(here)
        if done is not None:
            require_same_options(here, asdict(options))
            console.print(f"A finished demo is in {here.root}; this is its summary. Start over with --reset.")
        summary = done or job.run(here, options, console)
    print_summary(console, summary)
    if as_json:
        print(json.dumps(summary))


@app.command()
def ingest(
    source: Annotated[
        str, typer.Argument(help="A declared source, such as `orders`.", autocompletion=names_of("Source"))
    ],
    paths: Annotated[list[str] | None, typer.Argument(help="Parquet or CSV files, folders or globs.")] = None,
    known_at: Annotated[
        str | None, typer.Option(help="When these rows were known, for a file of corrections.")
    ] = None,
    replaces: Annotated[
        str | None, typer.Option(help="Digest of the landed file whose place this one takes.")
    ] = None,
    empty_day: Annotated[
        str | None,
        typer.Option(help="Instead of files: a day or hour in which nothing happened, such as 2018-12-25."),
    ] = None,
    reason: Annotated[str, typer.Option(help="With --empty-day: why; kept in the ledger of files.")] = "",
    as_json: Json = False,
) -> None:
    """Land files for a source: good rows by day, bad rows in quarantine. The same file twice changes nothing.

    A day without events has no file, and what reads it would wait for one:
    --empty-day says that there is none to come.
    """
    from ml_platform import declarations
    from ml_platform.sources.landing import expand, land_nothing
    from ml_platform.sources.landing import ingest as land
    from ml_platform.sources.spec import SourceSpec

    console = Console(stderr=as_json)
    results: list[dict[str, Any]] = []
    with telling_errors(console):
        here = settings().prepare()
        spec = declarations.load().get(SourceSpec, source, wanted_by="ingest")
        if (empty_day is None) == (not paths) or (empty_day and (known_at or replaces)):
            raise InputError(
                "either files, perhaps with --known-at and --replaces, or --empty-day DAY is required. "
                "Nothing was landed"
            )
        if empty_day is not None:
            results.append(land_nothing(here, spec, empty_day, reason=reason).__dict__)
            console.print(f"{spec.key} \\[{empty_day}]: no events, by {here.who}", highlight=False)
        for path in expand(paths or []):
            landed = land(here, spec, path, known_at=known_at, replaces=replaces)
            what = "had landed before; nothing changed" if landed.unchanged else f"{len(landed.days)} days"
            console.print(
                f"{escape(str(path))}: {landed.rows:,} rows, {landed.quarantined:,} quarantined, {what} "
                f"[dim]digest {landed.digest[:12]}[/]",
                soft_wrap=True,
            )
            results.append(landed.__dict__)
    if as_json:
        print(json.dumps({"landed": results}))


@app.command()
def dev(port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000) -> None:
    """Open the Dagster UI on everything in ML_PLATFORM_HOME."""
    from ml_platform.cli.instance import prepare_home

    with telling_errors(Console()):
        here = settings()
        prepare_home(here)
    dg_command = str(Path(sys.executable).with_name("dg"))
    os.chdir(here.declared_in.root)
    os.execv(dg_command, [dg_command, "dev", "-w", "workspace.yaml", "--port", str(port)])
