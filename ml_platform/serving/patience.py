"""Asks what may never answer, and waits only so long."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ml_platform.kernel.errors import StoreError

T = TypeVar("T")


class Patience:
    """Questions to a store, each in a thread of its own, so that whoever asks can go on without an answer.

    A question that got no answer in time is left to its thread; while that hangs, the next ones are not begun.
    """

    def __init__(self, what: str, *, seconds: float) -> None:
        self._what, self._seconds = what, seconds
        self._hanging: threading.Thread | None = None

    def ask(self, question: Callable[[], T]) -> T:
        """The answer, or what the question raised; StoreError when it takes too long."""
        if self._hanging is not None and self._hanging.is_alive():
            raise self._late()
        answer = Future[T]()
        thread = threading.Thread(target=_answer, args=(question, answer), name="asks a store", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if not answer.done():
            self._hanging = thread
            raise self._late()
        return answer.result()

    def _late(self) -> StoreError:
        return StoreError(f"{self._what} is required and did not answer within {self._seconds:g} s")


def _answer(question: Callable[[], T], answer: Future[T]) -> None:
    try:
        found = question()
    except BaseException as err:  # noqa: BLE001 (whoever asked gets it)
        answer.set_exception(err)
    else:
        answer.set_result(found)
