"""What every request passes, whatever it is about: ids, keys, limits, and an answer even when something breaks."""

import asyncio
import logging
import os
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_platform.kernel.settings import ServingSettings
from ml_platform.serving.keys import Keys
from ml_platform.serving.problems import Problem, Refused
from ml_platform.serving.service import Exchange

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})


class Disconnected(Exception):
    """Whoever asked is gone before the request was complete."""


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: ServingSettings, keys: Keys | None) -> None:
        self._app = app
        self._keys = keys
        self._seconds = settings.timeout_seconds
        self._largest = settings.max_body_kb * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        exchange = scope["exchange"] = _exchange(headers)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"].append((b"x-request-id", exchange.request_id.encode()))
            await send(message)

        try:
            if self._keys is not None and scope["path"] not in OPEN_PATHS:
                exchange.caller = self._keys.holder(headers)
            async with asyncio.timeout(self._seconds):
                if scope["method"] in _WITH_BODY:
                    exchange.body = await self._read(headers, receive)
                await self._app(scope, receive, answer)
            return
        except Disconnected:
            return
        except Refused as err:
            problem = err.problem
        except TimeoutError:
            problem = Problem(
                503, "too_slow", f"an answer within {self._seconds:g} s is required; it took longer"
            )
        except Exception:  # noqa: BLE001 - whatever it is, who asked gets an answer, and the log gets the rest
            _log.exception("a request failed", extra={"request_id": exchange.request_id})
            problem = Problem(
                500, "unexpected", "something unexpected happened; the log has it by the request's id"
            )
        if not started:
            await problem.response(exchange.request_id)(scope, receive, answer)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._largest:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body = message.get("body", b"")
            if len(body) > self._largest:
                raise self._too_large()
            return body
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._largest:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()

    def _too_large(self) -> Refused:
        return Refused(
            413,
            "too_large",
            f"a body of at most {self._largest // 1024} KB is required. Nothing was read further",
        )


def _exchange(headers: dict[bytes, bytes]) -> Exchange:
    given = headers.get(b"x-request-id", b"")
    request_id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
    return Exchange(request_id, os.urandom(16).hex())
