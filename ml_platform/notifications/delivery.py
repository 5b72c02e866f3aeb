"""Posts messages to a webhook, and says whether they were taken: only an answer of 2xx means that."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    wait_random_exponential,
)

from ml_platform.kernel.errors import InputError
from ml_platform.notifications.compute import Message, body

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 3
WAIT = wait_random_exponential(multiplier=0.5, max=4)
"""Between the attempts of one look; after it, a message waits for the next look."""

BUDGET_S = 25.0
"""After so long no further message is begun in one look: Dagster stops a sensor after a minute."""

_AGAIN = (408, 425, 429)
_SHOWN_BYTES = 200


@dataclass(frozen=True)
class Answer:
    """What a webhook said to a message; the address is in no words, for it is a secret."""

    taken: bool
    words: str
    worth_again: bool = False
    tried: bool = True


@dataclass(frozen=True)
class Sender:
    """Posts to one address over one connection."""

    client: "httpx.Client"
    url: str
    form: Literal["json", "slack"]
    webhook: str

    def send(self, message: Message, *, attempts: int = ATTEMPTS, patience_s: float = BUDGET_S) -> Answer:
        """Post a message, again after a while if that can help, and tell the last answer."""
        return Retrying(
            retry=retry_if_result(lambda answer: answer.worth_again),
            stop=stop_any(stop_after_attempt(attempts), stop_after_delay(patience_s)),
            wait=WAIT,
            retry_error_callback=_last,
        )(self._post, message)

    def send_all(self, messages: Sequence[Message]) -> Iterator[tuple[Message, Answer]]:
        """Post messages in their order, each whatever became of the others, as far as the time allows.

        Once one was not taken, the others get one attempt each.
        """
        deadline = time.monotonic() + BUDGET_S
        attempts = ATTEMPTS
        for message in messages:
            left = deadline - time.monotonic()
            if left <= 0:
                yield message, Answer(taken=False, words="not tried, others took too long", tried=False)
                continue
            answer = self.send(message, attempts=attempts, patience_s=left)
            attempts = attempts if answer.taken else 1
            yield message, answer

    def _post(self, message: Message) -> Answer:
        import httpx

        try:
            with self.client.stream(
                "POST",
                self.url,
                content=body(message, self.form, webhook=self.webhook),
                headers={"content-type": "application/json", "idempotency-key": message.id},
            ) as response:
                words = f"HTTP {response.status_code} {_beginning(response)}".strip()
                code = response.status_code
                return Answer(response.is_success, words, worth_again=code >= 500 or code in _AGAIN)
        except httpx.TimeoutException as err:
            return Answer(taken=False, words=f"no answer in time ({type(err).__name__})", worth_again=True)
        except httpx.TransportError as err:
            return Answer(taken=False, words=f"{type(err).__name__}: {err}", worth_again=True)


@contextmanager
def sender(url: str, form: Literal["json", "slack"], *, webhook: str, timeout_s: float) -> Iterator[Sender]:
    """A connection to a webhook. InputError for an address that cannot be one; what it was is not told."""
    import httpx

    if not _is_address(url):
        raise InputError(
            f"webhook {webhook}: an address such as https://hooks.example.com/… is required; the one that is set "
            f"has no http or https, no host, or a port that is none. Nothing "
            f"was sent, and what has happened waits; set it right"
        )
    logging.getLogger("httpx").setLevel(
        logging.WARNING
    )  # else it logs every address, with what is secret in it
    headers = {"user-agent": "ml-platform", "accept-encoding": "identity"}
    with httpx.Client(timeout=timeout_s, headers=headers) as client:
        yield Sender(client, url, form, webhook)


def _is_address(url: str) -> bool:
    import httpx

    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):  # also what cannot be encoded
        return False
    return found.scheme in ("http", "https") and bool(found.host)


def _beginning(response: "httpx.Response") -> str:
    """The first words of an answer. A webhook has taken what it answered with 2xx, even if its words never arrive."""
    import httpx

    try:
        return next(response.iter_raw(), b"")[:_SHOWN_BYTES].decode(errors="replace").strip()
    except httpx.TransportError:
        return ""


def _last(state: RetryCallState) -> Answer:
    assert state.outcome is not None
    return state.outcome.result()
