"""`ml-platform plan`: what a change does to features, partitions, models and what is online, before it is merged."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ml_platform.cli.output import Json, telling_what_could_not_run, write_text
from ml_platform.kernel.markdown import fenced
from ml_platform.kernel.settings import settings

if TYPE_CHECKING:  # it loads every component, and Dagster with them
    from ml_platform.plan.report import Plan

DESTRUCTIVE = 3


def plan(
    against: Annotated[
        str, typer.Option(help="The git ref that the change is to be merged into.")
    ] = "origin/main",
    summary: Annotated[Path | None, typer.Option(help="Write the same as Markdown to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Say what the files here change, compared with where they left a git ref.

    Added, changed and removed declarations, features and columns; changed code
    versions and checks; which partitions become stale, what reads them, which
    models are affected, and what would be destroyed online. Partitions are
    those published in the platform's home, or all that are declared where
    nothing is published. Nothing is changed anywhere.

    Exit code 0 when nothing online is destroyed; 3 when something is: a view
    or feature that is no longer there, has another type or is asked by another
    key, or a feature service that loses what a champion reads; 2 when it could
    not run.
    """
    console = Console(stderr=as_json)

    def failed(text: str) -> None:
        if summary is not None:
            write_text(summary, f"## ml-platform plan: could not run\n\n{fenced(text)}\n")

    with telling_what_could_not_run(console, failed):
        from ml_platform.plan.here import planned

        found = planned(settings(), against)
        if summary is not None:
            write_text(summary, found.markdown())
    _tell(console, found)
    if as_json:
        print(json.dumps({"verdict": found.verdict, "against": found.against, **asdict(found.changes)}))
    raise typer.Exit(DESTRUCTIVE if found.changes.destroyed else 0)


def _tell(console: Console, found: "Plan") -> None:
    for section in found.sections():
        table = Table(*section.columns, title=section.title, title_justify="left")
        for row in section.rows:
            table.add_row(*map(escape, row))
        console.print(table)
        if section.after:
            console.print(section.after, style="dim", highlight=False, markup=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    colour = "red" if found.changes.destroyed else "green"
    console.print(f"[{colour}]{found.verdict}[/], compared with {escape(found.against)}", highlight=False)
