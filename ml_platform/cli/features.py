"""`ml-platform features …`: what a view computes, to read."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax

from ml_platform.cli.completing import names_of
from ml_platform.cli.output import Json, telling_errors
from ml_platform.gates.asked import partition_of
from ml_platform.kernel.errors import InputError

features_app = typer.Typer(help="What feature views compute.", no_args_is_help=True)


@features_app.command()
def sql(
    name: Annotated[
        str, typer.Argument(help="Name of a declared feature view.", autocompletion=names_of("FeatureView"))
    ],
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
