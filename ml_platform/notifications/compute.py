"""What is told: happenings of one kind and place become one message, in JSON or as Slack wants it."""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import spans
from ml_platform.notifications.spec import Event

SHOWN = 3
"""How many of the happenings that one message is about it shows in full."""

# https://api.slack.com/reference/block-kit/blocks; three sections keep the whole far below the limit of a message.
SLACK_HEADER, SLACK_SECTION, SLACK_SECTIONS, SLACK_TEXT = 150, 3000, 3, 3000
_FENCE = "```"


@dataclass(frozen=True)
class Happening:
    """One thing that people have to know.

    What has the same `about` is told in one message. `identity` says what makes it another one than those before;
    `words` are the refusal; `footer` is what follows and what to do, said once for the whole message: of the first.
    """

    event: Event
    about: str
    asset: str
    headline: str
    words: str
    identity: tuple[str | None, ...]
    happened_at: dt.datetime
    partition: str | None = None
    run_id: str = ""
    footer: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> str:
        """Sixteen hex digits that are the same for the same happening, whenever it is looked at."""
        return digest_of([self.event, self.about, *self.identity])


class Message(BaseModel):
    """What is sent, as it is kept until it was taken. `id` is the receiver's key to tell repetitions."""

    model_config = ConfigDict(frozen=True)

    id: str
    event: Event | Literal["test"]
    about: str
    title: str
    text: str
    asset: str
    happened_at: dt.datetime
    partitions: tuple[str, ...] = ()
    link: str = ""
    details: dict[str, Any] = {}
    keys: tuple[str, ...] = ()


def compose(happenings: Sequence[Happening], *, ui: str | None = None) -> Message:
    """One message for happenings with the same `about`, in the order in which they happened."""
    newest = happenings[-1]
    days = tuple(sorted({h.partition for h in happenings if h.partition is not None}))
    where = f"{newest.asset} [{spans(days)}]" if days else newest.asset
    hidden = len(happenings) - SHOWN
    words = [h.words for h in happenings[:SHOWN]] + ([f"… and {hidden} more"] if hidden > 0 else [])
    runs = tuple(dict.fromkeys(h.run_id for h in happenings if h.run_id))
    keys = tuple(dict.fromkeys(h.key for h in happenings))
    return Message(
        id=digest_of(keys),
        event=newest.event,
        about=newest.about,
        title=newest.headline.replace("{where}", where),
        text="\n".join([*words, *happenings[0].footer]),
        asset=newest.asset,
        happened_at=newest.happened_at,
        partitions=days,
        link=_link(ui, newest.asset, runs),
        details={**newest.details, "runs": runs},
        keys=keys,
    )


def _link(ui: str | None, asset: str, runs: Sequence[str]) -> str:
    """Where the Dagster UI shows the run, or the asset when there is no single one; empty without a UI."""
    if not ui:
        return ""
    return f"{ui.rstrip('/')}/runs/{runs[0]}" if len(runs) == 1 else f"{ui.rstrip('/')}/assets/{asset}"


def without_runs(text: str) -> str:
    """A refusal without the ids of runs, so that the same refusal in another run is the same text."""
    return re.sub(r"run [0-9a-f]{8}", "run", text)


def body(message: Message, form: Literal["json", "slack"], *, webhook: str) -> bytes:
    """What is posted, in ASCII: any text comes through."""
    told = message.model_dump(mode="json", exclude={"keys", "about"})
    return json.dumps({"webhook": webhook, **told} if form == "json" else slack(message)).encode()


def slack(message: Message) -> dict[str, Any]:
    """A message as `text`, for notifications on a phone, and Block Kit blocks within Slack's limits."""
    about = f"{message.event} · {message.happened_at:%Y-%m-%d %H:%M} UTC · {message.id}"
    link = f" · <{_escaped(message.link).replace('|', '%7C')}|open in Dagster>" if message.link else ""
    sections = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"{_FENCE}{part}{_FENCE}"}}
        for part in _sections(message.text.replace("`", "'"))
    ]
    title = message.title.strip() or message.event
    return {
        "text": _cut(title, SLACK_TEXT),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": _cut(title, SLACK_HEADER)}},
            *sections,
            {"type": "context", "elements": [{"type": "mrkdwn", "text": f"{_escaped(about)}{link}"}]},
        ],
    }


def _sections(text: str) -> list[str]:
    """Escaped text in parts that fit into a section, broken between lines where that is possible."""
    size = SLACK_SECTION - 2 * len(_FENCE)
    parts = [""]
    for line in text.splitlines(keepends=True):
        escaped = _escaped(line)
        for piece in [escaped] if len(escaped) <= size else map(_escaped, line):
            if len(parts[-1]) + len(piece) > size:
                parts.append("")
            parts[-1] += piece
    filled = [part for part in parts if part.strip()]
    if len(filled) <= SLACK_SECTIONS:
        return filled
    rest = "\n… cut; the whole text: ml-platform notifications list --json"
    return [*filled[: SLACK_SECTIONS - 1], _whole(filled[SLACK_SECTIONS - 1], size - len(rest)) + rest]


def _escaped(text: str) -> str:
    """The three characters that mean something to Slack, as Slack asks for them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, size: int) -> str:
    """Escaped text of at most so many characters, with an ellipsis where it was cut."""
    escaped = _escaped(text)
    return escaped if len(escaped) <= size else _whole(escaped, size - 1) + "…"


def _whole(escaped: str, size: int) -> str:
    """The beginning of escaped text that does not end within an escaped character."""
    return re.sub(r"&[a-z]{0,3}$", "", escaped[:size])
