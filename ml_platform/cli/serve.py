"""Serving from the command line: the service itself, and keys for whoever asks it."""

import datetime as dt
import json
from typing import Annotated

import typer
from rich.console import Console

from ml_platform.cli.output import Json, say, telling_errors
from ml_platform.kernel.settings import Settings, settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one and says which.")] = None,
    at: Annotated[
        dt.datetime | None, typer.Option(help="Answer as of this time (UTC), to replay a day of the past.")
    ] = None,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Let everybody on this machine ask; on a loopback address only."),
    ] = False,
) -> None:
    """Serve the champions of all models: predictions, features, metrics."""
    with telling_errors(Console(stderr=True)):
        from ml_platform.serving.server import run

        run(_with(settings(), host=host, port=port, at=at), without_keys=without_keys)


def serving_key(
    name: Annotated[str, typer.Argument(help="Whose key it will be; logs and refusals call it so.")],
    expires: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day on which it is taken.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an API key for the service: it is shown once, and only its digest is kept, where you put it."""
    from ml_platform.serving.keys import new_key

    console = Console(stderr=True)
    with telling_errors(console):
        key, kept = new_key(name, last_day=expires.date() if expires else None)
    if as_json:
        print(json.dumps({"key": key, "line": kept.line}))
        return
    say(console, f"The key, for {name} alone; it is not shown again:")
    print(key)
    say(console, "What the service is given, in ML_PLATFORM_SERVING__KEYS or a line of the keys file:")
    print(kept.line)


def _with(here: Settings, *, host: str | None, port: int | None, at: dt.datetime | None) -> Settings:
    """The settings, with what the command was given in their place."""
    given = {"host": host, "port": port, "at": at.replace(tzinfo=dt.UTC) if at else None}
    changed = {name: value for name, value in given.items() if value is not None}
    return here.model_copy(update={"serving": here.serving.model_copy(update=changed)})
