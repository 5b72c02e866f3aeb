"""Requests that wait are read and scored as one batch: one round trip to the store and one run of the model for all.

Nobody waits for company (Triton calls it dynamic batching, without a delay): a thread that is free takes what is
there. A request alone is a batch of one; under load, what each costs of its own is little.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ml_platform.kernel.errors import StoreError
from ml_platform.serving.exchange import Exchange
from ml_platform.serving.instances import Row
from ml_platform.serving.service import Ready, Service, Steps

_TOGETHER = 64 * 1024
"""Bytes of bodies after which a batch takes no more."""

_ENDS_WITHIN = 10
"""Seconds for what waits when the service ends."""

_SMALL = 16 * 1024
"""Bytes of a body over which a request waits in a line of its own: those that ask for little do not wait for it."""


@dataclass(eq=False, slots=True)
class Waiting:
    """A request that waits for its answer, and what came of it."""

    ready: Ready
    exchange: Exchange
    steps: Steps[Any]
    answer: "asyncio.Future[Any]"
    told: Any = None
    error: Exception | None = None

    def go_on(self, step: Callable[[], Any]) -> Any:
        """Take a step of the work; None when that was its end, good or bad."""
        try:
            return step()
        except StopIteration as end:
            self.told = end.value
        except BaseException as err:  # noqa: BLE001 (whoever asked gets it; the thread goes on)
            self.fail(err)
        return None

    def fail(self, err: BaseException) -> None:
        """End with what was raised, as an error that a future can have: a panic of a native library is none."""
        self.steps.close()
        if not isinstance(err, Exception) or isinstance(err, StopIteration):
            failed = RuntimeError(f"{type(err).__name__} was raised while a request was answered")
            failed.__cause__, err = err, failed
        self.error, self.exchange.outcomes = err, ()

    def deliver(self) -> None:
        """Tell whoever waits, unless it does not any more."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.told)
        else:
            self.answer.set_exception(self.error)


Line = SimpleQueue[Waiting | None]
"""Requests in the order in which they came; None is the end for one of the threads."""


class Batches:
    """The threads that answer requests, and the lines in which these wait: one of the small, one of the large."""

    def __init__(self, service: Service, *, threads: int) -> None:
        self._service = service
        self._small, self._large = Line(), Line()
        self._threads = [
            threading.Thread(target=self._run, args=(line,), name=f"score-{i}", daemon=True)
            for i, line in enumerate((self._large, *[self._small] * threads))
        ]
        for thread in self._threads:
            thread.start()

    async def answer(self, ready: Ready, exchange: Exchange, steps: Steps[Any]) -> Any:
        """What a request's steps come to, or what they raise."""
        waiting = Waiting(ready, exchange, steps, asyncio.get_running_loop().create_future())
        (self._small if len(exchange.body) <= _SMALL else self._large).put(waiting)
        return await waiting.answer

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._large.put(None)
        for _ in self._threads[1:]:
            self._small.put(None)
        for thread in self._threads:
            thread.join(_ENDS_WITHIN)

    def _run(self, line: Line) -> None:
        while (first := line.get()) is not None:
            batch = [waiting for waiting in _with_others(first, line) if not waiting.answer.done()]
            answer(self._service, batch)
            if batch:
                batch[0].answer.get_loop().call_soon_threadsafe(_deliver, batch)


def _with_others(first: Waiting, line: Line) -> Iterator[Waiting]:
    """A request and those that wait behind it, up to what is done together."""
    found: Waiting | None = first
    size = 0
    while found is not None:
        yield found
        size += len(found.exchange.body)
        if size > _TOGETHER:
            return
        try:
            found = line.get_nowait()
        except Empty:
            return
    line.put(None)  # the end is for this thread too, after what it has


def answer(service: Service, batch: Sequence[Waiting]) -> None:
    """Answer some requests: each is checked and told alone, and scored with all that ask the same version."""
    by_version: dict[int, list[tuple[Waiting, Sequence[Row]]]] = {}
    for waiting in batch:
        rows = waiting.go_on(partial(next, waiting.steps))
        if rows is not None:
            by_version.setdefault(id(waiting.ready), []).append((waiting, rows))
    for asked in by_version.values():
        _score(service, asked)


def _score(service: Service, asked: Sequence[tuple[Waiting, Sequence[Row]]]) -> None:
    """Score the rows of requests that ask one version; each alone, when something is wrong with some of them."""
    try:
        scored = service.score(asked[0][0].ready, [(waiting.exchange, rows) for waiting, rows in asked])
    except BaseException as err:  # noqa: BLE001 (whoever asked gets it; the thread goes on)
        if len(asked) > 1 and not isinstance(err, StoreError):
            for one in asked:
                _score(service, [one])
            return
        for waiting, _ in asked:
            waiting.fail(err)
    else:
        for (waiting, _), found in zip(asked, scored, strict=True):
            waiting.go_on(partial(waiting.steps.send, (found.answer, found.prediction_ids)))
            if waiting.error is None:  # what is refused after all was not answered
                service.keep(waiting.exchange, found)


def _deliver(batch: Sequence[Waiting]) -> None:
    for waiting in batch:
        waiting.deliver()
