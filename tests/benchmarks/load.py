"""Load over keep-alive HTTP/1.1 connections, from a process of its own: the same for every server that is measured.

One request of a side is one call or more, each made from the answer of the call before; its time is that of all of
them. Each connection sends its next request when the last one is answered, or when it is due where a rate is given;
then its time counts from when it was due, so that a server that stalls cannot hide it. What is sent first was made
ready before. A request is answered when every call came back with status 200 and the last one with a score.

Where processors are shared with other machines, the tail of all requests is theirs too. Beside it stands the tail of
the requests during which nothing was stolen, and which share of all they are.
"""

import asyncio
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.benchmarks.steal import Steal

HOST = "127.0.0.1"
_GIVES_UP_AFTER = 10.0
_TOLD = 5


@dataclass(frozen=True)
class Call:
    """A POST of JSON: bodies to send in turn, or how to make one of the request's number and the answer before."""

    port: int
    path: str
    bodies: tuple[bytes, ...] | Callable[[int, bytes], bytes]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def head(self) -> bytes:
        given = {"host": f"{HOST}:{self.port}", "content-type": "application/json", **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        return ("\r\n".join(lines) + "\r\ncontent-length: ").encode()

    def message(self, body: bytes) -> bytes:
        """The bytes of the whole call."""
        return b"%s%d\r\n\r\n%s" % (self.head, len(body), body)


@dataclass(frozen=True)
class Side:
    """What is measured: the calls of one request, and what the last answer has to have in it."""

    calls: tuple[Call, ...]
    has_score: "re.Pattern[bytes]"


@dataclass(frozen=True)
class Load:
    """What came of it. Times are of answered requests; `told` has the first few errors in words.

    `p99_still_ms` and `still` are of the requests during which the hypervisor stole no time: their p99, their share.
    """

    connections: int
    seconds: float
    answered: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    p99_still_ms: float | None
    still: float
    told: tuple[str, ...]

    @property
    def rps(self) -> float:
        return round(self.answered / self.seconds, 1)


@dataclass(frozen=True)
class Generator:
    """The process that makes load."""

    pool: ProcessPoolExecutor

    def start(
        self, side: Side, *, connections: int, seconds: float, warm: float = 1.0, rate: float | None = None
    ) -> "Future[Load]":
        """Begin to ask, `rate` times a second or as often as answers come; the first `warm` seconds do not count."""
        return self.pool.submit(run, side, connections=connections, seconds=seconds, warm=warm, rate=rate)

    def load(self, side: Side, *, connections: int, seconds: float, warm: float = 1.0) -> Load:
        """The same until the end."""
        return self.start(side, connections=connections, seconds=seconds, warm=warm).result()


@contextmanager
def generator() -> Iterator[Generator]:
    """A process for load, until the end of the block."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield Generator(pool)


def run(side: Side, *, connections: int, seconds: float, warm: float, rate: float | None) -> Load:
    """Make load in this process."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(side, connections=connections, seconds=seconds, warm=warm, rate=rate))


async def _load(side: Side, *, connections: int, seconds: float, warm: float, rate: float | None) -> Load:
    first = side.calls[0]
    assert isinstance(first.bodies, tuple), "the first call of a side needs bodies that are ready"
    ready = [(number, first.message(body)) for number, body in enumerate(first.bodies)]
    start = time.perf_counter()
    found = Found(counts_from=start + warm)
    every = None if rate is None else connections / rate
    clients = [
        _Client(
            side,
            itertools.cycle(ready[number % len(ready) :] + ready[: number % len(ready)]),
            found,
            due=start + number / (rate or float("inf")),
            every=every,
        )
        for number in range(connections)
    ]
    watching = asyncio.create_task(found.steal.watch())
    await asyncio.gather(*(client.ask_until(start + warm + seconds) for client in clients))
    watching.cancel()
    found.steal.note()
    return found.load(connections, time.perf_counter() - start - warm)


@dataclass
class Found:
    """What is being measured."""

    counts_from: float
    times: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    steal: Steal = field(default_factory=Steal)
    errors: int = 0
    told: list[str] = field(default_factory=list[str])

    def answered(self, begun: float) -> None:
        now = time.perf_counter()
        if now >= self.counts_from:
            self.times.append((begun, now))

    def failed(self, why: str) -> None:
        self.errors += 1
        if len(self.told) < _TOLD:
            self.told.append(why)

    def load(self, connections: int, seconds: float) -> Load:
        taken = sorted(ended - begun for begun, ended in self.times)
        still = sorted(ended - begun for begun, ended in self.times if self.steal.none_within(begun, ended))
        return Load(
            connections,
            seconds,
            len(taken),
            self.errors,
            p50_ms=_milliseconds(taken, 0.5),
            p99_ms=_milliseconds(taken, 0.99),
            p99_still_ms=_milliseconds(still, 0.99),
            still=round(len(still) / len(taken), 3) if taken else 0.0,
            told=tuple(self.told),
        )


def _milliseconds(ordered: list[float], share: float) -> float | None:
    return round(percentile(ordered, share) * 1000, 3) if ordered else None


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value that is not less than a share of all."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class _Client:
    """One user: a connection to every server of a side, and one request at a time."""

    def __init__(
        self,
        side: Side,
        ready: Iterator[tuple[int, bytes]],
        found: Found,
        *,
        due: float,
        every: float | None,
    ) -> None:
        self._side, self._ready, self._found = side, ready, found
        self._due, self._every = due, every
        self._connections = [_Connection(call.port) for call in side.calls]

    async def ask_until(self, end: float) -> None:
        while (begun := await self._next()) < end:
            try:
                async with asyncio.timeout(_GIVES_UP_AFTER):
                    body = await self._ask()
                if self._side.has_score.search(body) is None:
                    raise _Unanswered(f"no score: {_words(body)}")
            except (OSError, _Unanswered, TimeoutError) as err:
                self._found.failed(f"{type(err).__name__}: {err}")
                for connection in self._connections:
                    connection.close()
                await asyncio.sleep(0.01)  # a server that is away is not asked as fast as it refuses
            else:
                self._found.answered(begun)
        for connection in self._connections:
            connection.close()

    async def _next(self) -> float:
        """When the next request begins: now, or when it is due."""
        if self._every is None:
            return time.perf_counter()
        due, self._due = self._due, self._due + self._every
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        return due

    async def _ask(self) -> bytes:
        number, message = next(self._ready)
        body = b""
        for call, connection in zip(self._side.calls, self._connections, strict=True):
            if not isinstance(call.bodies, tuple):
                message = call.message(call.bodies(number, body))
            body = await connection.ask(message)
        return body


class _Unanswered(Exception):
    """A call came back without what was asked."""


class _Connection(asyncio.Protocol):
    """One connection that is kept: opened when it is needed, and again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._received = b""

    async def ask(self, message: bytes) -> bytes:
        """Send a call and return the body that comes back; _Unanswered for another status than 200."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            self._transport, _ = await loop.create_connection(lambda: self, HOST, self._port)
        self._received, self._waiting = b"", loop.create_future()
        self._transport.write(message)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        try:
            body = complete(self._received)
        except _Unanswered as err:
            waiting.set_exception(err)
        else:
            if body is not None:
                waiting.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(_Unanswered(f"the server closed the connection ({exc})"))


def complete(received: bytes) -> bytes | None:
    """The body of an answer that has come in whole, None before; _Unanswered for another status than 200."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    length = _LENGTH.search(head)
    if length is None:
        raise _Unanswered(f"an answer with a length is required: {_words(head)}")
    if len(body) < int(length[1]):
        return None
    if not head.startswith(b"HTTP/1.1 200 "):
        raise _Unanswered(_words(received))
    return body


_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def _words(received: bytes) -> str:
    return received[:300].decode(errors="replace")
