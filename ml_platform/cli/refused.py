"""`ml-platform refused …`: deliveries and partitions that failed their checks, kept until someone decides."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml_platform.cli.asked import AssetArgument, component_named
from ml_platform.cli.completing import assets
from ml_platform.cli.output import Json, Reason, say, telling_errors
from ml_platform.gates.asked import node_of, partition_of
from ml_platform.kernel.settings import settings

if TYPE_CHECKING:  # it loads Dagster
    from ml_platform.gates.outcomes import Outcome

refused_app = typer.Typer(
    help="Partitions that failed their checks and were not published.", no_args_is_help=True
)
PartitionArgument = Annotated[str, typer.Argument(help="The refused day or hour, such as 2018-10-01.")]


@refused_app.command("list")
def list_(
    asset: Annotated[str | None, typer.Argument(help="Of one asset only.", autocompletion=assets)] = None,
    as_json: Json = False,
) -> None:
    """List refused partitions that nobody has dismissed, and what readers have in their place."""
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.refused import refused_partitions
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console), open_instance(here) as instance:
        found = refused_partitions(instance, Lake(here.lake_uri), asset)
    table = Table("asset", "partition", "rows", "what was seen", "required", "in its place")
    for entry in found:
        place = "an older version" if entry.published else "nothing"
        table.add_row(
            entry.asset,
            entry.partition,
            f"{entry.rows:,}",
            entry.observed,
            entry.bound,
            "a good version came since" if entry.superseded else place,
        )
    console.print(table if found else "nothing is refused")
    if as_json:
        print(json.dumps({"refused": [asdict(entry) for entry in found]}))


@refused_app.command()
def show(
    asset: AssetArgument,
    partition: PartitionArgument,
    limit: Annotated[int, typer.Option(min=1, help="Rows shown of each broken expectation.")] = 20,
    as_json: Json = False,
) -> None:
    """Show the refused rows that break each expectation."""
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.refused import broken_rows, refused_partitions, require_refused
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console):
        catalog, lake = declarations.load(), Lake(here.lake_uri)
        node_of(catalog.lineage, asset)
        expectations = getattr(catalog.declaring(asset), "expectations", ())
        with open_instance(here) as instance:
            entry = require_refused(refused_partitions(instance, lake, asset), asset, partition)
        broken = broken_rows(here, lake, entry, expectations, limit=limit)
    say(
        console,
        f"{asset} [{partition}]: {entry.rows:,} rows refused; {entry.observed} (required: {entry.bound})",
    )
    for sentence, rows in broken.items():
        console.print(_table(sentence, rows))
    if as_json:
        print(json.dumps({**asdict(entry), "broken": broken}, default=str))


@refused_app.command()
def dismiss(
    asset: AssetArgument, partition: PartitionArgument, reason: Reason, as_json: Json = False
) -> None:
    """Drop what was refused: the version that is published counts again, judged by what is declared now.

    Of a source, the files that brought the refused rows no longer count for
    that day, and those whose place they took do. Landing such a file again
    lets it count again.
    """
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.gates.refused import Dismissal
    from ml_platform.gates.refused import dismiss as drop
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console):
        catalog = declarations.load()
        component, node = component_named(catalog, asset), catalog.node(asset)
        day = partition_of(node, partition)
        asked = Dismissal(node, day, reason, here.who)
        with open_instance(here) as instance:
            outcome = drop(
                instance,
                Lake(here.lake_uri),
                asked,
                forget=lambda since: component.forget_delivery(
                    here, day, since=since, reason=reason, actor=here.who
                ),
                judge=lambda keys: component.rechecked(catalog, here, keys),
            )
    say(console, f"{asset} [{day}]: dismissed by {here.who}; {_left(outcome)}")
    if as_json:
        passed = outcome is not None and outcome.passed
        print(json.dumps({"asset": asset, "partition": day, "passed": passed}))


def _left(outcome: "Outcome | None") -> str:
    """What is left after a dismissal, in words."""
    if outcome is None:
        return "nothing is published for it"
    if outcome.passed:
        return "the published version counts again"
    return f"the published version fails too: {outcome.failures()}"


def _table(sentence: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(*(rows[0] if rows else ("",)), title=f"required: {sentence}", title_justify="left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table
