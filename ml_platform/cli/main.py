"""The `ml-platform` command."""

import datetime as dt
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ml_platform.kernel.errors import InputError, PlatformError
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.partitions import day
from ml_platform.kernel.settings import settings

app = typer.Typer(
    help="Features, training sets, drift profiles and models as gated assets.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
drift_app = typer.Typer(help="What to do about drift.", no_args_is_help=True)
gate_app = typer.Typer(help="Why an asset may or may not be made.", no_args_is_help=True)
app.add_typer(drift_app, name="drift")
app.add_typer(gate_app, name="gate")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@contextmanager
def telling_errors(console: Console) -> Iterator[None]:
    """Turn the platform's own errors into one message and exit code 1; anything else is a bug and is raised."""
    try:
        yield
    except PlatformError as err:
        kind = type(err).__name__.removesuffix("Error").lower()
        console.print(f"[red]{kind}:[/] {escape(str(err))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from err


@app.command()
def demo(
    scale: Annotated[
        float, typer.Option(min=0.01, help="Size of the simulated world; 1 is 1.75 million events.")
    ] = 1.0,
    days: Annotated[
        int | None, typer.Option(min=90, max=183, help="Days of history; default: all 183.")
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
    here = settings()
    with telling_errors(console):
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
    source: Annotated[str, typer.Argument(help="A declared source, such as `transactions`.")],
    paths: Annotated[list[str], typer.Argument(help="Parquet or CSV files, folders or globs.")],
    known_at: Annotated[
        str | None, typer.Option(help="When these rows were known, for a file of corrections.")
    ] = None,
    replaces: Annotated[
        str | None, typer.Option(help="Digest of the landed file whose place this one takes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Land files for a source: good rows by day, bad rows in quarantine. The same file twice changes nothing."""
    from ml_platform import declarations
    from ml_platform.sources.spec import SourceSpec
    from ml_platform.sources.store import expand
    from ml_platform.sources.store import ingest as land

    console = Console(stderr=as_json)
    here = settings().prepare()
    results: list[dict[str, Any]] = []
    with telling_errors(console):
        spec = declarations.load().get(SourceSpec, source, wanted_by="ingest")
        for path in expand(paths):
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
    from ml_platform.kernel.settings import PROJECT_ROOT

    prepare_home(settings())
    dg_command = str(Path(sys.executable).with_name("dg"))
    os.chdir(PROJECT_ROOT)
    os.execv(dg_command, [dg_command, "dev", "-w", "workspace.yaml", "--port", str(port)])


@drift_app.command()
def accept(
    asset: Annotated[
        str, typer.Argument(help="A drift profile or training set, such as `drift_profiles/fraud`.")
    ],
    partition: Annotated[str, typer.Argument(help="The refused day, such as 2018-10-02.")],
    reason: Annotated[str, typer.Option(help="Why the change is real; kept in the ledger.")],
    new_regime: Annotated[
        bool, typer.Option(help="Later days are compared with accepted days from this one on.")
    ] = False,
) -> None:
    """Let one drifted day through for good; it stays out of references."""
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.acceptances import Acceptance
    from ml_platform.gates.acceptances import accept as let_through
    from ml_platform.lake.tables import Lake

    console = Console()
    here = settings()
    with telling_errors(console):
        check = _drift_check(asset)
        acceptance = Acceptance(asset, check, partition, reason, here.who, new_regime)
        with open_instance(here) as instance:
            observed = let_through(instance, Lake(here.lake_uri), acceptance)
    console.print(
        f"{asset} [{partition}] {check}: accepted by {here.who}; was: {observed}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@gate_app.command()
def status(
    asset: Annotated[str, typer.Argument(help="An asset, such as `models/fraud`.")],
    partition: Annotated[str, typer.Option(help="The day, such as 2018-10-02.")],
    as_json: Json = False,
) -> None:
    """Say whether an asset's partition may be made, and what closes its gate. Exit code 1 when it is closed."""
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.guard import closed_gates, refusal_text
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    with telling_errors(console):
        lineage = declarations.load().lineage
        if asset not in lineage.nodes:
            raise InputError(
                f"a declared asset is required: {', '.join(sorted(lineage.nodes))}; got {asset!r}"
            )
        date = _day_of(lineage.nodes[asset], partition)
        with open_instance(settings()) as instance:
            closed = closed_gates(instance, lineage, asset, date, lake=Lake(settings().lake_uri))
    if as_json:
        print(
            json.dumps({"asset": asset, "partition": partition, "closed": [gate.__dict__ for gate in closed]})
        )
    text = refusal_text(asset, partition, closed) if closed else f"{asset} [{partition}]: the gate is open"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if closed else 0)


def _day_of(node: Node, partition: str) -> dt.date:
    """The day that a partition names; InputError when the asset has no such partition."""
    try:
        date = day(partition)
    except ValueError:
        date = None
    if date is None or (node.partitioned and node.clip((date, date)) is None):
        raise InputError(
            f"--partition requires a day of {node.key}, from {node.first_day or 'any'} to "
            f"{node.last_day or 'now'}, such as 2018-08-01; got {partition!r}"
        )
    return date


def _drift_check(asset: str) -> str:
    """The drift check of an asset; InputError when it has none."""
    from ml_platform import declarations

    nodes = declarations.load().lineage.nodes
    with_drift = {
        key: check for key, node in nodes.items() for check in node.blocking_checks if "drift" in check
    }
    if asset not in with_drift:
        raise InputError(
            f"an asset with a drift check is required: {', '.join(sorted(with_drift))}; got {asset!r}"
        )
    return with_drift[asset]
