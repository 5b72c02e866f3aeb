"""`ml-platform drift report`: the page that says how a day differs from the days before it."""

import json
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ml_platform.cli.completing import names_of
from ml_platform.cli.output import Json, telling_errors
from ml_platform.kernel.settings import settings

Profile = Annotated[
    str, typer.Argument(help="Name of a declared drift profile.", autocompletion=names_of("DriftProfile"))
]


def report(
    name: Profile,
    partition: Annotated[str, typer.Argument(help="The day, such as 2018-08-01.")],
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Print where the report of a profiled day is; with --open, show it."""
    from ml_platform import declarations
    from ml_platform.drift_profiles.reporting import current_report
    from ml_platform.drift_profiles.spec import DriftProfileSpec
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    with telling_errors(console):
        spec = declarations.load().get(
            DriftProfileSpec, name.removeprefix("drift_profiles/"), wanted_by="drift report"
        )
        found = current_report(Lake(settings().lake_uri), spec.key, partition)
    if as_json:
        print(json.dumps({"profile": spec.name, "partition": partition, "report": found.uri}))
    else:
        print(found.uri)
    if show:
        webbrowser.open(_local(found.uri, found.html))


def _local(uri: str, html: str) -> str:
    """A URL that a browser opens: the page itself, or a copy of what is in an object store."""
    if "://" not in uri:
        return Path(uri).as_uri()
    with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False) as copy:
        copy.write(html)
    return Path(copy.name).as_uri()
