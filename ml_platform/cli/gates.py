"""`ml-platform gate …` and `ml-platform drift …`: why an asset may not be made, and the ways out."""

import datetime as dt
import json
from typing import Annotated

import typer
from rich.console import Console

from ml_platform.cli.output import Json, telling_errors
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.partitions import day
from ml_platform.kernel.settings import settings

drift_app = typer.Typer(help="What to do about drift.", no_args_is_help=True)
gate_app = typer.Typer(help="Why an asset may or may not be made.", no_args_is_help=True)


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
        date = day_of(lineage.nodes[asset], partition)
        with open_instance(settings()) as instance:
            closed = closed_gates(instance, lineage, asset, date, lake=Lake(settings().lake_uri))
    if as_json:
        print(
            json.dumps({"asset": asset, "partition": partition, "closed": [gate.__dict__ for gate in closed]})
        )
    text = refusal_text(asset, partition, closed) if closed else f"{asset} [{partition}]: the gate is open"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if closed else 0)


def day_of(node: Node, partition: str) -> dt.date:
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
