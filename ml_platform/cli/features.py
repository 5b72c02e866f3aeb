"""`ml-platform features …`: what a view computes, bringing it online, and what is there."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax

from ml_platform.cli.completing import names_of
from ml_platform.cli.output import Json, telling_errors
from ml_platform.gates.asked import partition_of
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import settings

if TYPE_CHECKING:
    from ml_platform.features.spec import FeatureViewSpec

features_app = typer.Typer(
    help="What feature views compute, and what of them is online.", no_args_is_help=True
)
View = Annotated[
    str, typer.Argument(help="Name of a declared feature view.", autocompletion=names_of("FeatureView"))
]


@features_app.command()
def sql(
    name: View,
    partition: Annotated[
        str | None, typer.Option(help="The day or hour, such as 2018-06-01; default: the view's first.")
    ] = None,
    last: Annotated[
        str | None, typer.Option(help="Last day of a range that begins with --partition.")
    ] = None,
    late: Annotated[
        bool, typer.Option(help="The query for days on which events came late or were corrected.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the query that makes a view's rows of a partition, or of a range of them.

    Its relations are named as the assets that they hold versions of. What runs is this query; which of its two
    forms is decided by whether an event or label of these days was known too late for a row that counts it.
    """
    from ml_platform import declarations
    from ml_platform.features.spec import FeatureViewSpec
    from ml_platform.features.staging import query_text

    console = Console(stderr=as_json)
    with telling_errors(console):
        catalog = declarations.load()
        spec = catalog.get(FeatureViewSpec, name, wanted_by="features sql")
        node = spec.nodes(catalog)[0]
        first = partition or str(node.first)
        days = (first, last or first)
        if partition_of(node, days[1]) < partition_of(node, days[0]):
            raise InputError(
                f"--last requires {node.cadence.one} that is not before --partition; got {' … '.join(days)}"
            )
        text = query_text(spec, catalog, days, prompt=not late)
    if as_json:
        print(json.dumps({"view": name, "first": days[0], "last": days[1], "sql": text}))
    elif console.is_terminal:
        console.print(Syntax(text, "sql", background_color="default"))
    else:
        print(text)


@features_app.command()
def publish(name: View, as_json: Json = False) -> None:
    """Bring a view online as it is declared now, in one command.

    Makes its partitions that are missing or stale, applies the registry, and publishes the newest snapshot, as
    Dagster runs in this process. What it reads has to be there: `ml-platform stale` lists what is not current. Exit
    code 1 when a check or a gate refuses: then nothing online has changed.
    """
    from ml_platform import declarations
    from ml_platform.cli.publish import Step, bring_online
    from ml_platform.features.spec import FeatureViewSpec

    console, steps = Console(stderr=as_json), list[Step]()
    with telling_errors(console):
        here, catalog = settings().prepare(), declarations.load()
        spec = catalog.get(FeatureViewSpec, name, wanted_by="features publish")
        for step in bring_online(here, catalog, spec, console):
            days = "" if step.first is None else f" {' … '.join(dict.fromkeys((step.first, str(step.last))))}"
            console.print(f"  [green]✓[/] {step.asset}[dim]{days}[/] {step.seconds} s", highlight=False)
            steps.append(step)
    if as_json:
        print(json.dumps({"view": name, "made": [asdict(step) for step in steps]}))


@features_app.command()
def online(
    name: View,
    keys: Annotated[list[str], typer.Argument(help="Its key, such as shop_id=7.")],
    as_json: Json = False,
) -> None:
    """Print the row that the online store has for a key now, with its time. How old it may be is for serving to say."""
    from ml_platform import declarations
    from ml_platform.features.spec import FeatureViewSpec
    from ml_platform.online.store import online_row

    console = Console(stderr=as_json)
    with telling_errors(console):
        here, catalog = settings().prepare(), declarations.load()
        spec = catalog.get(FeatureViewSpec, name, wanted_by="features online")
        row = online_row(here, spec.name, _keys(spec, catalog, keys))
        if row is None:
            raise InputError(f"{name}: a key that is online is required; {' '.join(keys)} is not")
    if as_json:
        print(json.dumps({"view": name, **row}))
        return
    for column, value in row.items():
        print(f"{column}: {value}")


def _keys(spec: "FeatureViewSpec", catalog: Catalog, given: list[str]) -> dict[str, int | str]:
    """The values of a view's key columns, in their types."""
    columns = spec.row_key(catalog)
    found = {name: value for name, _, value in (text.partition("=") for text in given)}
    types = spec.row_types(catalog)
    try:
        if set(found) == set(columns):
            return {name: int(found[name]) if types[name] == "int64" else found[name] for name in columns}
    except ValueError:
        pass  # told below, as a key that is missing is
    wanted = " ".join(f"{name}={types[name].upper()}" for name in columns)
    raise InputError(
        f"{spec.name}: its key is required, as {wanted}; got {' '.join(given)}. Nothing was read"
    )
