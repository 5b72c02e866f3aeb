"""The notifications ledger: what was told to which webhook, and what still waits to be taken."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import pyarrow as pa
from sqlglot import exp

from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake
from ml_platform.notifications.compute import Message

NOTIFICATIONS = Ledger(
    "notifications",
    {
        "webhook": pa.string(),
        "id": pa.string(),
        "about": pa.string(),
        "status": pa.string(),
        "answer": pa.string(),
        "message": pa.string(),
    },
)
Status = Literal["sent", "pending"]


@dataclass(frozen=True)
class Entry:
    """What became of one message, by its newest line in the ledger."""

    webhook: str
    status: Status
    answer: str
    recorded_at: dt.datetime
    message: Message


def record(lake: Lake, webhook: str, message: Message, *, status: Status, answer: str) -> None:
    """Write down that a message was taken, or that it waits and why, with all that is needed to send it."""
    entry = {
        "webhook": webhook,
        "id": message.id,
        "about": message.about,
        "status": status,
        "answer": answer,
        "message": json.dumps(message.model_dump(mode="json")),  # ASCII: half a surrogate pair is no UTF-8
    }
    NOTIFICATIONS.append(lake, [entry])


def earlier(lake: Lake, webhook: str, *, about: Collection[str], ids: Collection[str]) -> list[Entry]:
    """Messages to a webhook that are about some things or have some ids; nothing is read when none are asked for."""
    lines = NOTIFICATIONS.entries(lake, webhook=[webhook], about=about) if about else []
    lines += NOTIFICATIONS.entries(lake, webhook=[webhook], id=ids) if ids else []
    return _newest(lines)


def overview(lake: Lake) -> list[Entry]:
    """Every message, the last one recorded at the end."""
    return _newest(NOTIFICATIONS.entries(lake))


def waiting(lake: Lake) -> dict[str, int]:
    """How many messages wait to be taken, by webhook; without reading the messages."""
    columns = ("webhook", "id", "status", "recorded_at")
    lines = lake.table(f"ledgers/{NOTIFICATIONS.name}").answer(exp.select(*columns))
    newest = {
        (line["webhook"], line["id"]): line["status"] for line in sorted(lines, key=itemgetter("recorded_at"))
    }
    return dict(Counter(webhook for (webhook, _), status in newest.items() if status == "pending"))


def _newest(lines: Iterable[Mapping[str, Any]]) -> list[Entry]:
    found = {
        (line["webhook"], line["id"]): line for line in sorted(lines, key=lambda line: line["recorded_at"])
    }
    return [_entry(line) for line in sorted(found.values(), key=lambda line: line["recorded_at"])]


def _entry(line: Mapping[str, Any]) -> Entry:
    message = Message.model_validate(json.loads(line["message"]))
    return Entry(line["webhook"], line["status"], line["answer"], line["recorded_at"], message)
