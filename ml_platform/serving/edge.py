"""What every request passes, whatever it is about: ids, keys, limits, and an answer even when something breaks."""

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from time import perf_counter_ns

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_platform.kernel.settings import ServingSettings
from ml_platform.serving.exchange import Exchange
from ml_platform.serving.keys import Keys
from ml_platform.serving.metrics import Metrics
from ml_platform.serving.problems import Refused
from ml_platform.serving.tracing import Tracing

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_FAILURES = frozenset({"store", "unexpected"})
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""What is answered without a key."""


class _GoneError(Exception):
    """Whoever asked went away before the request was complete."""


class Edge:
    """The outermost layer of the application."""

    def __init__(
        self, app: ASGIApp, settings: ServingSettings, keys: Keys | None, metrics: Metrics, tracing: Tracing
    ) -> None:
        self._app, self._keys, self._metrics, self._tracing = app, keys, metrics, tracing
        self._seconds = settings.timeout_seconds
        self._largest = settings.max_body_kb * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # no other protocol is spoken
            await send({"type": "websocket.close", "code": 1003})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        exchange = scope["exchange"] = Exchange(_request_id(headers), scope["method"])
        self._tracing.begin(exchange, headers)
        self._metrics.in_flight += 1

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"].append((b"x-request-id", exchange.request_id.encode()))
            await send(message)

        try:
            if self._keys is not None and scope["path"] not in OPEN_PATHS:
                exchange.caller = self._keys.holder(headers)
            async with asyncio.timeout(self._seconds):
                if exchange.method not in _WITHOUT_BODY:
                    exchange.body = await self._read(headers, receive)
                exchange.complete = True
                await self._app(scope, receive, answer)
        except _GoneError:
            exchange.reason = "incomplete"
        except TimeoutError:
            if not exchange.status:
                await exchange.refuse(self._too_slow(exchange))(scope, receive, answer)
        except Exception as err:  # noqa: BLE001 - whatever it is, who asked gets an answer, and the log gets the rest
            if not exchange.status:
                await exchange.refuse(err)(scope, receive, answer)
        finally:
            self._metrics.in_flight -= 1
            self._metrics.count(exchange)
            self._tracing.end(exchange)
            _say(exchange)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity":
            raise Refused(
                415, "content_encoding", "a body without content-encoding is required; got one with it"
            )
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._largest:
            raise self._too_large()
        chunks: list[bytes] = []
        left = self._largest
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            chunk = message.get("body", b"")
            left -= len(chunk)
            if left < 0:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join((*chunks, chunk)) if chunks else chunk
            chunks.append(chunk)

    def _too_large(self) -> Refused:
        return Refused(
            413, "too_large", f"a body of at most {self._largest // 1024} KB is required. Nothing was scored"
        )

    def _too_slow(self, exchange: Exchange) -> Refused:
        if not exchange.complete:
            detail = (
                f"a whole request within {self._seconds:g} s is required; it came in part. Nothing was scored"
            )
            return Refused(408, "incomplete", detail, headers={"Connection": "close"})
        detail = f"an answer within {self._seconds:g} s is required, and it took longer. Ask again"
        return Refused(503, "too_slow", detail, headers={"Retry-After": "1"})


def _say(exchange: Exchange) -> None:
    """A line of the log: an error of what failed, and of what was answered where somebody debugs."""
    reason, err = exchange.reason, exchange.error
    if exchange.route in OPEN_PATHS:
        return
    level = logging.DEBUG if reason is None else logging.ERROR if reason in _FAILURES else logging.INFO
    if not _log.isEnabledFor(level):
        return
    served = exchange.served
    told = {
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "caller": exchange.caller,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "reason": reason,
        "model": served.name if served else None,
        "version": served.version if served else None,
        "milliseconds": (perf_counter_ns() - exchange.started) // 10_000 / 100,
    }
    said = "answered" if reason is None else "failed" if reason in _FAILURES else "refused"
    _log.log(level, said, extra=told, exc_info=err if reason in _FAILURES else None)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id of the request, where it can be one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode("ascii") if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
