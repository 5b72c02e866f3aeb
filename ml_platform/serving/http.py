"""The platform's own routes: predictions by key, features alone, and how the service is."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request
from starlette.responses import Response

from ml_platform.serving.problems import Refused
from ml_platform.serving.service import Service

_JSON = "application/json"


class Routes:
    """Handlers of the platform's own protocol."""

    def __init__(self, service: Service, pool: ThreadPoolExecutor) -> None:
        self._service = service
        self._pool = pool

    async def predict(self, request: Request) -> Response:
        require_json(request)
        ready = self._service.ready(request.path_params["name"])
        loop = asyncio.get_running_loop()
        told = await loop.run_in_executor(self._pool, self._service.predict, ready, request.scope["exchange"])
        return Response(told, media_type=_JSON)

    async def alive(self, request: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type=_JSON)

    async def readiness(self, request: Request) -> Response:
        for name in self._service.names():
            self._service.ready(name)
        if not self._service.names():
            raise Refused(503, "not_ready", "a model that is served is required; there is none yet")
        return Response(b'{"status":"ready"}', media_type=_JSON)


def require_json(request: Request) -> None:
    """Refuse a body that does not say it is JSON."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != _JSON:
        raise Refused(415, "content_type", f"content-type {_JSON} is required; got {given[:100] or 'none'}")
