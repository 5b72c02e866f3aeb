"""How every command talks: one message for an error, words for people, one JSON object for machines."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ml_platform.kernel.errors import InputError, PlatformError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger for ever.")]
COULD_NOT_RUN = 2
"""Exit code of a command that says with 1 or 3 what it has found, when it could not look."""


@contextmanager
def telling_errors(console: Console, *, exit_code: int = 1) -> Iterator[None]:
    """Turn the platform's own errors into one message and an exit code; anything else is a bug and is raised."""
    try:
        yield
    except PlatformError as err:
        kind = type(err).__name__.removesuffix("Error").lower()
        console.print(f"[red]{kind}:[/] {escape(str(err))}", highlight=False, soft_wrap=True)
        raise typer.Exit(exit_code) from err


def say(console: Console, text: str) -> None:
    """Print text as it is: no colours found in it, no lines broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def telling_what_could_not_run(console: Console, tell: Callable[[str], None]) -> Iterator[None]:
    """Whatever is raised is told, in words and with `tell`, and ends with exit code 2: others say what was found."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as err:
        known = isinstance(err, PlatformError)
        kind = type(err).__name__.removesuffix("Error").lower() if known else "could not run"
        text = str(err) if known else "".join(traceback.format_exception(err)).strip()
        text = "interrupted" if isinstance(err, KeyboardInterrupt) else text
        try:
            tell(text)
        except InputError as unwritten:
            text = text if text == str(unwritten) else f"{text}\n{unwritten}"
        console.print(f"[red]{kind}:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise typer.Exit(COULD_NOT_RUN) from err


def write_text(path: Path, text: str) -> None:
    """Write a file that a command was asked for; folders on the way are made. InputError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise InputError(f"{path}: a file that can be written is required: {err}") from err
