"""`ml-platform doctor`: what is configured of each external system, what answers, and what to do where it does not."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ml_platform.cli.output import Json, say, telling_errors
from ml_platform.cli.systems import System, passwords, shown, systems
from ml_platform.kernel.addresses import without_password
from ml_platform.kernel.settings import settings

_LOADING_S = 20.0
"""For so much longer than a system may take its client may take to be loaded, which is seconds on a busy machine."""


@dataclass
class Finding:
    """What is known of one system: where it is, whether it answers, its answer or what is wrong, and what to do."""

    system: str
    configured: str = ""
    answers: bool = False
    said: str = "no answer in time"
    to_do: str = ""


def doctor(
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each system may take.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Ask every external system whether it answers: what is configured, what is wrong, and what to do.

    All are asked at once, so that one that hangs holds up nobody. Nothing is
    made or changed, but for one object that is written to the lake's object
    store and removed: it has to refuse a second write. A webhook is connected
    to and sent nothing. No password is shown. Exit code 0 when all answer, 1
    when one does not.
    """
    console = Console(stderr=as_json)
    with telling_errors(console):
        found = examined(systems(settings()), timeout_s=timeout)
    _tell(console, found)
    healthy = all(finding.answers for finding in found)
    if as_json:
        print(json.dumps({"healthy": healthy, "systems": [asdict(finding) for finding in found]}))
    raise typer.Exit(0 if healthy else 1)


def examined(asked: Sequence[System], *, timeout_s: float, loading_s: float = _LOADING_S) -> list[Finding]:
    """What each system answers, in their order; one that has not answered in time is told as such."""
    found = [Finding(system.name, to_do=f"look at {system.look_at}") for system in asked]
    threads = [
        # A thread that hangs ends with the process.
        threading.Thread(target=_examine, args=(system, finding, timeout_s), daemon=True)
        for system, finding in zip(asked, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s + loading_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [Finding(**asdict(finding)) for finding in found]


def _examine(system: System, finding: Finding, timeout_s: float) -> None:
    secrets: set[str] = set()
    try:
        where = system.where()
        secrets = passwords(where)
        finding.configured = shown(where)
        finding.said, finding.answers, finding.to_do = system.ask(where, timeout_s), True, ""
    except Exception as err:  # noqa: BLE001 - whichever system it is, its client has errors of its own
        finding.said = _in_a_line(err, secrets)


def _in_a_line(err: Exception, secrets: set[str]) -> str:
    """An error's own words, short and without a password that its client put into them."""
    text = " ".join(f"{type(err).__name__}: {err}".split())
    for secret in secrets:
        text = text.replace(secret, "***")
    return without_password(text)[:300]


def _tell(console: Console, found: Sequence[Finding]) -> None:
    table = Table("system", Column("configured", overflow="fold"), "answers", box=None)
    for finding in found:
        answer = f"yes: {finding.said}" if finding.answers else "no"
        table.add_row(*(escape(text) for text in (finding.system, finding.configured, answer)))
    console.print(table)
    for finding in found:
        if not finding.answers:
            say(console, f"{finding.system} does not answer: {finding.said}; {finding.to_do}")
