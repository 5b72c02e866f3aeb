"""`ml-platform drift …`: what to do about drift."""

from typing import Annotated

import typer
from rich.console import Console

from ml_platform.cli.output import Reason, say, telling_errors
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import settings

drift_app = typer.Typer(help="What to do about drift.", no_args_is_help=True)


@drift_app.command()
def accept(
    asset: Annotated[
        str, typer.Argument(help="A drift profile or training set, such as `drift_profiles/fraud`.")
    ],
    partition: Annotated[str, typer.Argument(help="The refused day, such as 2018-10-02.")],
    reason: Reason,
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
    say(console, f"{asset} [{partition}] {check}: accepted by {here.who}; was: {observed}")


def _drift_check(asset: str) -> str:
    """The drift check of an asset; InputError when it has none."""
    from ml_platform import declarations

    nodes = declarations.load().lineage.nodes
    with_drift = {
        key: check.name
        for key, node in nodes.items()
        for check in node.blocking_checks
        if "drift" in check.name
    }
    if asset not in with_drift:
        raise InputError(
            f"an asset with a drift check is required: {', '.join(sorted(with_drift))}; got {asset!r}"
        )
    return with_drift[asset]
