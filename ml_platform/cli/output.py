"""How every command talks: one message for an error, words for people, one JSON object for machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ml_platform.kernel.errors import PlatformError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger for ever.")]


@contextmanager
def telling_errors(console: Console) -> Iterator[None]:
    """Turn the platform's own errors into one message and exit code 1; anything else is a bug and is raised."""
    try:
        yield
    except PlatformError as err:
        kind = type(err).__name__.removesuffix("Error").lower()
        console.print(f"[red]{kind}:[/] {escape(str(err))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from err


def say(console: Console, text: str) -> None:
    """Print text as it is: no colours found in it, no lines broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
