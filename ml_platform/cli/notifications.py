"""`ml-platform notifications …`: whether a webhook can be reached, and what it was told."""

import datetime as dt
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ml_platform.cli.completing import names_of
from ml_platform.cli.output import Json, say, telling_errors
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import settings

if TYPE_CHECKING:
    from ml_platform.notifications.store import Entry

notifications_app = typer.Typer(help="What people are told, and by which webhook.", no_args_is_help=True)


@notifications_app.command("test")
def send_test(
    name: Annotated[
        str, typer.Argument(help="A declared webhook, such as `on_call`.", autocompletion=names_of("Webhook"))
    ],
    as_json: Json = False,
) -> None:
    """Send a sample message now and print the answer. Exit code 1 when it was not taken, or no address is set."""
    from ml_platform import declarations
    from ml_platform.notifications.compute import Message
    from ml_platform.notifications.delivery import sender
    from ml_platform.notifications.spec import WebhookSpec

    console = Console(stderr=as_json)
    here, now = settings(), dt.datetime.now(dt.UTC)
    with telling_errors(console):
        spec = declarations.load().get(WebhookSpec, name, wanted_by="notifications test")
        url = here.webhook(spec.url_name)
        if url is None:
            raise InputError(
                f"webhook {name}: its address is required in {spec.url_variable}, which is not set. Nothing was sent"
            )
        message = Message(
            id=digest_of(["test", name, now.isoformat()]),
            event="test",
            about="test",
            title=f"A test of {name}: nothing has happened",
            text=f"{here.who} asked whether this webhook can be reached. It is told of: {', '.join(spec.events)}.",
            asset="",
            happened_at=now,
            link=here.ui or "",
        )
        with sender(url, spec.format, webhook=name, timeout_s=spec.timeout.seconds) as webhook:
            answer = webhook.send(message)
    taken = "taken" if answer.taken else "not taken"
    say(console, f"{name}: {taken}: {answer.words}")
    if as_json:
        print(json.dumps({"webhook": name, "id": message.id, "taken": answer.taken, "answer": answer.words}))
    raise typer.Exit(0 if answer.taken else 1)


@notifications_app.command("list")
def list_messages(
    last: Annotated[int, typer.Option(min=1, help="How many, the newest last.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what was told last and what still waits to be taken, with what the webhook answered."""
    from ml_platform.lake.tables import Lake
    from ml_platform.notifications.store import overview

    console = Console(stderr=as_json)
    with telling_errors(console):
        entries = overview(Lake(settings().lake_uri))[-last:]
    table = Table("when", "webhook", "status", "what", "answer", box=None)
    for entry in entries:
        when = f"{entry.recorded_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(when, entry.webhook, entry.status, entry.message.title, entry.answer)
    console.print(table if entries else "nothing was told yet")
    if as_json:
        print(json.dumps({"notifications": [_plain(entry) for entry in entries]}))


def _plain(entry: "Entry") -> dict[str, object]:
    told = entry.message.model_dump(mode="json", exclude={"keys", "about"})
    return {
        "webhook": entry.webhook,
        "status": entry.status,
        "answer": entry.answer,
        "recorded_at": entry.recorded_at.isoformat(),
        **told,
    }
