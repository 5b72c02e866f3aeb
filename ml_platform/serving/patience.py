"""Asks what may never answer, and waits only so long."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ml_platform.kernel.errors import StoreError

T = TypeVar("T")


class Patience:
    """One thread that asks a store, so that whoever wants the answer can go on without it.

    A question that got no answer in time is left to its thread; while that hangs, the next ones are not begun.
    """

    def __init__(self, what: str, *, seconds: float) -> None:
        self._what, self._seconds = what, seconds
        self._questions: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._pending: Future[Any] | None = None
        self._thread: threading.Thread | None = None

    def ask(self, question: Callable[[], T]) -> T:
        """The answer; StoreError when it takes too long, or what the question raised."""
        if self._pending is not None and not self._pending.done():
            raise self._late()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"asks {self._what}", daemon=True)
            self._thread.start()
        self._pending = answer = Future[T]()
        self._questions.put((question, answer))
        try:
            return answer.result(timeout=self._seconds)
        except TimeoutError as err:
            if answer.done():  # a time-out of the store's own client
                raise
            raise self._late() from err

    def _late(self) -> StoreError:
        return StoreError(f"{self._what} is required and did not answer within {self._seconds:g} s")

    def _work(self) -> None:
        while True:
            question, answer = self._questions.get()
            try:
                answer.set_result(question())
            except BaseException as err:  # noqa: BLE001 (whoever asked gets it)
                answer.set_exception(err)
