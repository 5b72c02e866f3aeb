"""`ml-platform gate …`: why an asset may not be made, with the evidence, and the ways out that people take."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ml_platform.cli.asked import AssetArgument, component_named
from ml_platform.cli.completing import assets, checks
from ml_platform.cli.output import Json, Reason, say, telling_errors
from ml_platform.gates.asked import check_of, node_of, partition_of, partitions_of, time_of
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Lineage, Node
from ml_platform.kernel.settings import settings

if TYPE_CHECKING:  # they load Dagster
    import dagster as dg

    from ml_platform.gates.outcomes import Outcome

gate_app = typer.Typer(
    help="Why an asset may or may not be made, and the ways out of a closed gate.", no_args_is_help=True
)
NewestPartition = Annotated[
    str | None,
    typer.Option(
        help="A day such as 2018-10-02, or an hour such as 2018-10-02-13:00; default: the newest one."
    ),
]


@gate_app.command()
def status(
    asset: Annotated[
        str | None,
        typer.Argument(
            help="An asset, such as `models/NAME`; default: all that have checks.", autocompletion=assets
        ),
    ] = None,
    partition: NewestPartition = None,
    as_json: Json = False,
) -> None:
    """Say whether an asset's partition may be made, and what closes its gate. Exit code 1 when it is closed.

    If it is made and its own checks did not pass, it says that as well, with
    exit code 1: they close the gates of what reads it. A release is asked for
    the newest day of its model. Without an asset: every blocking check, which
    partitions passed it and which close gates, and why.
    """
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.guard import closed_gates, closing_itself, own_failures_text, refusal_text
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    if asset is None:
        with telling_errors(console):
            _require_asset(partition)
        return _overview(as_json)
    here = settings()
    with telling_errors(console):
        lineage = declarations.load().lineage
        node = node_of(lineage, asset)
        with open_instance(here) as instance:
            name = _partition_of(instance, lineage, node, partition)
            lake = Lake(here.lake_uri)
            closed = closed_gates(instance, lineage, asset, name, lake=lake)
            own = closing_itself(instance, node, name, lake=lake)
    if as_json:
        told = {"closed": [gate.__dict__ for gate in closed], "own": [gate.__dict__ for gate in own]}
        print(json.dumps({"asset": asset, "partition": name, **told}))
    say(console, refusal_text(asset, name, closed) if closed else f"{asset} [{name}]: the gate is open")
    if own:
        say(console, own_failures_text(own))
    raise typer.Exit(1 if closed or own else 0)


@gate_app.command()
def explain(
    asset: AssetArgument,
    partition: NewestPartition = None,
    as_json: Json = False,
) -> None:
    """Show the evidence behind a closed gate: what was measured, when, what came before, and who acted.

    For each partition that closes it, and for its own checks where they did
    not pass: the findings of the latest evaluation, the evaluations before,
    ways out that were taken, and the commands that get out now.
    """
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.explanation import explain as explained
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console):
        lineage = declarations.load().lineage
        node = node_of(lineage, asset)
        with open_instance(here) as instance:
            name = _partition_of(instance, lineage, node, partition)
            found = explained(instance, lineage, Lake(here.lake_uri), asset, name)
    if as_json:
        print(json.dumps({"asset": asset, "partition": name, "closed": [f.as_json() for f in found]}))
    say(console, "\n\n".join(f.in_words() for f in found) or f"{asset} [{name}]: the gate is open")
    raise typer.Exit(1 if found else 0)


@gate_app.command()
def recheck(
    asset: AssetArgument,
    reason: Reason,
    partition: Annotated[
        list[str] | None, typer.Argument(help="Days such as 2018-10-02, or hours such as 2018-10-02-13:00.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="First day or hour of a range.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day or hour of a range.")] = None,
    as_json: Json = False,
) -> None:
    """Judge published partitions again by what is declared now, without making them again.

    This is what a new or changed expectation asks for. Nothing is published or
    taken back; what fails closes the gate. Exit code 1 when something failed.
    Without days: all published partitions.
    """
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.recheck import Recheck
    from ml_platform.gates.recheck import recheck as judge_again
    from ml_platform.lake.ledger import published
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console):
        catalog = declarations.load()
        node, lake = node_of(catalog.lineage, asset), Lake(here.lake_uri)
        days = partitions_of(node, partition or (), (first, last), published=sorted(published(lake, asset)))
        component = component_named(catalog, asset)
        with open_instance(here) as instance:
            asked = Recheck(node, tuple(days), reason, here.who)
            outcomes = judge_again(
                instance, lake, asked, lambda keys: component.rechecked(catalog, here, keys)
            )
    _tell_rechecked(console, asset, outcomes, as_json=as_json)
    raise typer.Exit(0 if all(outcome.passed for outcome in outcomes) else 1)


@gate_app.command()
def override(
    asset: AssetArgument,
    partition: Annotated[str, typer.Argument(help="The day or hour whose gate opens, such as 2018-10-02.")],
    until: Annotated[str, typer.Option(help="When it closes again: 2018-10-05, or 2018-10-05T12:00 (UTC).")],
    reason: Reason,
    check: Annotated[
        str | None,
        typer.Option(help="The check that closes it; default: the asset's only one.", autocompletion=checks),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let models through a closed gate for a while. Nothing is published by it, and it closes on its own.

    Models trained meanwhile stay as they are; what is trained after it has
    ended is refused again. A partition without a published version cannot be
    overridden.
    """
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.overrides import Override
    from ml_platform.gates.overrides import override as open_gate
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console):
        node = node_of(declarations.load().lineage, asset)
        day = partition_of(node, partition)
        asked = Override(asset, check_of(node, check), day, time_of(until), reason, here.who)
        with open_instance(here) as instance:
            gate = open_gate(instance, Lake(here.lake_uri), asked, now=dt.datetime.now(dt.UTC))
    say(
        console,
        f"{asked.where}: open until {asked.until:%Y-%m-%d %H:%M} UTC; it was closed by: {gate.in_words()}",
    )
    if as_json:
        print(json.dumps({"asset": asset, "partition": day, "until": asked.until.isoformat()}))


@gate_app.command("end-override")
def end_override(
    asset: AssetArgument,
    partition: Annotated[str, typer.Argument(help="The day that was overridden, such as 2018-10-02.")],
    reason: Reason,
    check: Annotated[
        str | None,
        typer.Option(
            help="The check that was overridden; default: the asset's only one.", autocompletion=checks
        ),
    ] = None,
) -> None:
    """Close a gate again before its override ends by itself."""
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.overrides import Override
    from ml_platform.gates.overrides import end_override as close_gate
    from ml_platform.lake.tables import Lake

    console = Console()
    here = settings()
    with telling_errors(console):
        node = node_of(declarations.load().lineage, asset)
        day, now = partition_of(node, partition), dt.datetime.now(dt.UTC)
        asked = Override(asset, check_of(node, check), day, now, reason, here.who)
        with open_instance(here) as instance:
            close_gate(instance, Lake(here.lake_uri), asked)
    say(console, f"{asked.where}: its override was ended by {here.who}")


def _require_asset(partition: str | None) -> None:
    if partition is not None:
        raise InputError(
            f"--partition {partition} requires an asset: ml-platform gate status ASSET --partition DAY"
        )


def _partition_of(instance: "dg.DagsterInstance", lineage: Lineage, node: Node, partition: str | None) -> str:
    """The partition that is asked of: of an asset without partitions, the newest one that is made of what it reads."""
    from ml_platform.gates.evaluations import newest_materialized

    if partition is None and not node.partitioned:
        above = [u.key for u in node.upstream if u.key in lineage.nodes and lineage.node(u.key).partitioned]
        newest = max(filter(None, (newest_materialized(instance, key) for key in above)), default=None)
        if newest is not None:
            return newest
    return partition_of(node, partition)


def _tell_rechecked(console: Console, asset: str, outcomes: "Sequence[Outcome]", *, as_json: bool) -> None:
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        say(console, f"{asset} [{outcome.partition}] failed: {outcome.failures()}")
    say(console, f"{asset}: {len(outcomes)} judged again, {len(failed)} failed")
    if as_json:
        results = [{"partition": o.partition, "passed": o.passed, "failures": o.failures()} for o in outcomes]
        print(json.dumps({"asset": asset, "rechecked": results}))


def _overview(as_json: bool) -> None:
    """Every blocking check of every asset: passed, and closed by reason. Exit code 1 when one closes gates."""
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.explanation import overview
    from ml_platform.kernel.partitions import spans
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console), open_instance(here) as instance:
        rows = overview(instance, declarations.load().lineage, Lake(here.lake_uri))
    table = Table("asset", "check", "passed", "closes gates")
    for row in rows:
        closed = "; ".join(
            f"{spans(gate.partitions)}: {gate.observed or gate.explanation}" for gate in row.closed
        )
        table.add_row(row.asset, row.check, f"{row.passed:,}", closed or "-")
    console.print(table)
    if as_json:
        print(json.dumps({"checks": [row.as_json() for row in rows]}))
    raise typer.Exit(1 if any(row.closed for row in rows) else 0)
