"""One look of a webhook: what is new is read and told, and what was not taken is remembered.

Delivery is at least once, and once wherever that can be known: a message is in the ledger before the cursor moves.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.notifications.checks import failed_since
from ml_platform.notifications.compute import Happening, Message, compose
from ml_platform.notifications.delivery import sender
from ml_platform.notifications.events import Scope, changed_since, moved_aliases, refused_since
from ml_platform.notifications.lateness import late_models
from ml_platform.notifications.spec import WebhookSpec
from ml_platform.notifications.store import earlier, record


class Position(BaseModel):
    """What a webhook has been told of: where each of its sources was read up to, and what waits to be taken.

    `judged` has the last day by which each model was asked whether it is late, `aliases` the version that each
    champion alias was moved to without the ledger.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    began: dt.datetime
    evaluations: int
    failures: int
    promotions: int = -1
    judged: dict[str, str] = {}
    aliases: dict[str, str] = {}
    pending: tuple[str, ...] = ()


def tell(
    scope: Scope, instance: dg.DagsterInstance, settings: Settings, *, cursor: str | None, now: dt.datetime
) -> tuple[str | None, str]:
    """One look of a webhook: tell what is new and what waits; the new cursor, and what was done in words.

    Each message is in the ledger, as taken or as waiting, before the cursor moves: what is read again after a
    crash is known there. Without an address nothing is read, and the cursor stays.
    """
    url = settings.webhook(scope.spec.url_name)
    if url is None:
        return cursor, f"{scope.spec.url_variable} is not set: no URL is set; nothing is sent"
    lake = Lake(settings.lake_uri)
    position = _position(instance, cursor, now)
    found, position = _look(scope, instance, settings, position, now)
    messages = _outbox(scope.spec.name, lake, found, position.pending, ui=settings.ui)
    waiting = _deliver(scope.spec, url, lake, messages, before=position.pending)
    position = position.model_copy(update={"pending": tuple(waiting)})
    sent = len(messages) - len(waiting)
    said = f", {len(waiting)} waiting for the next look: {list(waiting.values())[-1]}" if waiting else ""
    return position.model_dump_json(), f"{sent} sent{said}" if messages else "nothing to tell"


def _position(instance: dg.DagsterInstance, cursor: str | None, now: dt.datetime) -> Position:
    """Where the look before ended; the first look begins at what happens from now on."""
    if not cursor:
        newest = instance.event_log_storage.get_maximum_record_id() or 0
        return Position(began=now, evaluations=newest, failures=newest)
    try:
        return Position.model_validate_json(cursor)
    except ValidationError as err:
        raise InputError(
            f"a cursor that this sensor wrote is required; got {cursor!r}. Nothing was sent; clear it in the UI, and "
            f"what happens from then on is told"
        ) from err


def _look(
    scope: Scope, instance: dg.DagsterInstance, settings: Settings, position: Position, now: dt.datetime
) -> tuple[list[Happening], Position]:
    """All that has happened since a position, in order of time, and the position after it."""
    lake = Lake(settings.lake_uri)
    failed, evaluations = failed_since(instance, scope, position.evaluations)
    refused, failures = refused_since(instance, scope, position.failures)
    changed, promotions = changed_since(lake, scope, position.promotions, began=position.began)
    late, judged = late_models(instance, lake, scope, now=now, judged=position.judged)
    moved, aliases = moved_aliases(settings, scope, position.aliases, now)
    read = {"evaluations": evaluations, "failures": failures, "promotions": promotions, "judged": judged}
    read |= {"aliases": aliases}
    found = sorted([*failed, *refused, *changed, *late, *moved], key=lambda happening: happening.happened_at)
    return found, position.model_copy(update=read)


def _outbox(
    webhook: str, lake: Lake, found: Sequence[Happening], pending: Sequence[str], *, ui: str | None
) -> list[Message]:
    """What waits, in the order of the cursor, then what is new; what the ledger has is not told again."""
    known = earlier(lake, webhook, about={happening.about for happening in found}, ids=pending)
    told = {key for entry in known for key in entry.message.keys}
    order = {id: place for place, id in enumerate(pending)}
    waiting = [entry.message for entry in known if entry.status == "pending"]
    waiting.sort(key=lambda message: order.get(message.id, len(order)))
    new = {happening.key: happening for happening in found if happening.key not in told}
    grouped: dict[str, list[Happening]] = {}
    for happening in new.values():
        grouped.setdefault(happening.about, []).append(happening)
    return waiting + [compose(happenings, ui=ui) for happenings in grouped.values()]


def _deliver(
    spec: WebhookSpec, url: str, lake: Lake, messages: Sequence[Message], *, before: Sequence[str]
) -> dict[str, str]:
    """Send messages; ids of those that were not taken with the answers, those not tried first.

    The ledger has a line for each that was taken, and one for each that begins to wait.
    """
    if not messages:
        return {}
    untried, refused = dict[str, str](), dict[str, str]()
    with sender(url, spec.format, webhook=spec.name, timeout_s=spec.timeout.seconds) as webhook:
        for message, answer in webhook.send_all(messages):
            if answer.taken:
                record(lake, spec.name, message, status="sent", answer=answer.words)
                continue
            (refused if answer.tried else untried)[message.id] = answer.words
            if message.id not in before:
                record(lake, spec.name, message, status="pending", answer=answer.words)
    return {**untried, **refused}
