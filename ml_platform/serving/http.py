"""The routes: the platform's own, and those of the Open Inference Protocol. Each takes a request and lets others work.

What takes a thread is one hop to it and back, so that the loop answers health whatever the stores do.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ml_platform.serving import v2
from ml_platform.serving.batching import Batches
from ml_platform.serving.exchange import Exchange
from ml_platform.serving.metrics import Metrics
from ml_platform.serving.openapi import document
from ml_platform.serving.problems import FieldProblem, Refused
from ml_platform.serving.service import Ready, Service

JSON = "application/json"
_LENGTH = re.compile(r"[0-9]{1,12}")
Endpoint = Callable[[Request], Awaitable[Response]]


class Routes:
    """Handlers of all routes, by path and method."""

    def __init__(
        self, service: Service, batches: Batches, pool: ThreadPoolExecutor, metrics: Metrics
    ) -> None:
        self._service, self._batches, self._pool, self._metrics = service, batches, pool, metrics

    def table(self) -> Sequence[tuple[str, str, Endpoint]]:
        """Method, path and handler; what is asked most comes first."""
        return [
            ("POST", "/v1/models/{name}:predict", self.predict),
            ("POST", "/v2/models/{name}/infer", self.infer),
            ("POST", "/v2/models/{name}/versions/{version}/infer", self.infer),
            ("GET", "/v1/features/{service}", self.features_of_query),
            ("POST", "/v1/features/{service}", self.features_of_body),
            ("GET", "/healthz", self.alive),
            ("GET", "/readyz", self.readiness),
            ("GET", "/metrics", self.metrics),
            ("GET", "/v1/models", self.models),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/v2", self.server),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.all_ready),
            ("GET", "/v2/models/{name}", self.metadata),
            ("GET", "/v2/models/{name}/versions/{version}", self.metadata),
            ("GET", "/v2/models/{name}/ready", self.model_ready),
            ("GET", "/v2/models/{name}/versions/{version}/ready", self.model_ready),
            ("POST", "/v2/repository/index", self.index),
        ]

    async def predict(self, request: Request) -> Response:
        require_json(request)
        ready = self._service.ready(request.path_params["name"])
        exchange = _exchange(request)
        return _json(await self._batches.answer(ready, exchange, self._service.predict(ready, exchange)))

    async def features_of_body(self, request: Request) -> Response:
        require_json(request)
        ready = self._service.ready_for(request.path_params["service"])
        return _json(await self._in_thread(self._service.features, ready, _exchange(request)))

    async def features_of_query(self, request: Request) -> Response:
        ready = self._service.ready_for(request.path_params["service"])
        given = request.query_params.multi_items()
        query = dict(given)
        if len(query) < len(given):
            raise Refused(
                422,
                "invalid",
                "each key once is required in the query; one came twice. POST takes many",
            )
        rows = ready.instances.keys_of_query(query)
        return _json(await self._in_thread(self._service.features, ready, _exchange(request), rows))

    async def infer(self, request: Request) -> Response:
        ready = self._version(request)
        length = _header_length(request)
        exchange = _exchange(request)
        body, json_length = await self._batches.answer(ready, exchange, v2.infer(ready, exchange, length))
        if json_length is None:
            return _json(body)
        return Response(body, media_type=v2.BINARY, headers={v2.HEADER_LENGTH: str(json_length)})

    async def models(self, request: Request) -> Response:
        told = [asdict(status) for status in self._service.versions.status()]
        return _json(to_json({"models": told}))

    async def metadata(self, request: Request) -> Response:
        return _json(to_json(v2.metadata(self._version(request))))

    async def model_ready(self, request: Request) -> Response:
        return _json(to_json({"name": self._version(request).served.name, "ready": True}))

    async def index(self, request: Request) -> Response:
        return _json(to_json(v2.index(self._service.versions.status(), _exchange(request).body)))

    async def server(self, request: Request) -> Response:
        return _json(
            to_json({"name": "ml-platform", "version": _release(), "extensions": ["binary_tensor_data"]})
        )

    async def alive(self, request: Request) -> Response:
        return _json(b'{"status":"alive"}')

    async def live(self, request: Request) -> Response:
        return _json(b'{"live":true}')

    async def readiness(self, request: Request) -> Response:
        self._require_all_ready()
        status = self._service.versions.status()
        told = [{"model": s.model, "version": s.version, "origin": s.origin} for s in status]
        return _json(to_json({"status": "ready", "models": told}))

    async def all_ready(self, request: Request) -> Response:
        self._require_all_ready()
        return _json(b'{"ready":true}')

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        found = [self._service.ready(name) for name in self._service.served()]
        return _json(await self._in_thread(document, found, _release()))

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def _version(self, request: Request) -> Ready:
        """What answers for a model, of the version that is asked for if one is."""
        ready = self._service.ready(request.path_params["name"])
        wanted = request.path_params.get("version")
        if wanted is not None and wanted != str(ready.served.version):
            raise Refused(
                404,
                "unknown_version",
                f"the version that is served is required, which is {ready.served.version}; got {wanted[:20]!r}",
            )
        return ready

    def _require_all_ready(self) -> None:
        if not self._service.versions.ready():
            detail = (
                "a version of every model that can be served is required; there is not yet. Ask again later"
            )
            raise Refused(503, "not_ready", detail, headers={"Retry-After": "2"})


def require_json(request: Request) -> None:
    """Refuse a body that does not say it is JSON."""
    given = request.headers.get("content-type", "")
    if given != JSON and given.partition(";")[0].strip().lower() != JSON:
        raise Refused(415, "content_type", f"content-type {JSON} is required; got {given[:100] or 'none'}")


def _header_length(request: Request) -> int | None:
    """How long the JSON before binary tensors is; None where the body is JSON alone, whether it says so or not."""
    given = request.headers.get(v2.HEADER_LENGTH)
    if given is None:
        if request.headers.get("content-type"):
            require_json(request)
        return None
    length = len(_exchange(request).body)
    if not (_LENGTH.fullmatch(given) and int(given) <= length):
        message = f"a length of at most the body's {length} bytes is required; got {given[:20]!r}"
        error = FieldProblem(path=v2.HEADER_LENGTH, message=message)
        raise Refused(422, "invalid", f"{error.path}: {message}. Nothing was scored", errors=[error])
    return int(given)


def _exchange(request: Request) -> Exchange:
    return request.scope["exchange"]


def _json(content: bytes) -> Response:
    return Response(content, media_type=JSON)


@cache
def _release() -> str:
    return version("ml-platform")
