"""The service as an ASGI application: routes, what surrounds them, and what lives as long as it does."""

from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ml_platform.kernel.errors import PlatformError
from ml_platform.kernel.settings import Settings
from ml_platform.serving.batching import Batches
from ml_platform.serving.edge import Edge
from ml_platform.serving.http import Endpoint, Routes
from ml_platform.serving.keys import Keys
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.metrics import Metrics
from ml_platform.serving.service import Service, Versions
from ml_platform.serving.shadow import Shadow
from ml_platform.serving.tracing import tracing

_LIKE = {"HEAD": "GET"}


def application(
    settings: Settings,
    versions: Versions,
    log: PredictionLog,
    *,
    keys: Keys | None,
    shadow: Shadow | None = None,
) -> ASGIApp:
    """The service over these versions, with predictions logged to this log; without keys everybody may ask.

    What it is given outlives it; it closes what it opened itself when it shuts down.
    """
    serving = settings.serving
    pool = ThreadPoolExecutor(serving.threads, thread_name_prefix="read")
    service = Service(serving, versions, log, shadow)
    batches = Batches(service, threads=serving.threads)
    metrics, traces = Metrics(versions, log, shadow), tracing(settings.otlp_endpoint)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        batches.close()
        pool.shutdown()
        traces.close()

    own = TelemetryConfig(tracing=False, metrics=False, logs=False)
    app = FastAPI(lifespan=lifespan, openapi_url=None, redirect_slashes=False, telemetry=own)
    routes = Routes(service, batches, pool, metrics)
    by_path: dict[str, dict[str, Endpoint]] = {}
    for method, path, endpoint in routes.table():
        by_path.setdefault(path, {})[method] = endpoint
    for path, endpoints in by_path.items():
        app.add_route(path, _known_as(path, endpoints), methods=list(endpoints))
    for kind in (PlatformError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    return Edge(app, serving, keys, metrics, traces)


def _known_as(path: str, endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """The handler of a path, whose requests are counted under it; HEAD is answered as GET is."""

    async def handle(request: Request) -> Response:
        request.scope["exchange"].route = path
        return await endpoints[_LIKE.get(request.method, request.method)](request)

    return handle


async def _refuse(request: Request, err: Exception) -> Response:
    return request.scope["exchange"].refuse(err)
