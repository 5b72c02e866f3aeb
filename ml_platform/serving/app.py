"""The service as an ASGI application: routes, what surrounds them, and what lives as long as it does."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.settings import ServingSettings
from ml_platform.serving.edge import Edge
from ml_platform.serving.http import Routes
from ml_platform.serving.keys import Keys
from ml_platform.serving.problems import Problem, Reason, Refused
from ml_platform.serving.service import Log, Service, Shadow, Versions


def application(
    settings: ServingSettings, versions: Versions, log: Log, keys: Keys | None, shadow: Shadow | None = None
) -> ASGIApp:
    """The service over these versions, with predictions logged to this log; without keys everybody may ask."""
    pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="score")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        pool.shutdown()

    app = FastAPI(
        title="ml-platform",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    service = Service(settings, versions, log, shadow)
    routes = Routes(service, pool)
    app.add_route("/v1/models/{name}:predict", routes.predict, methods=["POST"])
    app.add_route("/healthz", routes.alive, methods=["GET"])
    app.add_route("/readyz", routes.readiness, methods=["GET"])
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(InputError, _input)
    app.add_exception_handler(StoreError, _store)
    app.add_exception_handler(HTTPException, _http)
    return Edge(app, settings, keys)


async def _refused(request: Request, err: Exception) -> Response:
    assert isinstance(err, Refused)
    return err.problem.response(request.scope["exchange"].request_id)


async def _input(request: Request, err: Exception) -> Response:
    return Problem(422, "invalid", str(err)).response(request.scope["exchange"].request_id)


async def _store(request: Request, err: Exception) -> Response:
    problem = Problem(503, "store", str(err), headers={"Retry-After": "1"})
    return problem.response(request.scope["exchange"].request_id)


async def _http(request: Request, err: Exception) -> Response:
    """What the router refuses by itself: an unknown path, or another method than a path has."""
    assert isinstance(err, HTTPException)
    reason: Reason = "method" if err.status_code == 405 else "unknown_route"
    what = f"{request.method} {request.url.path[:200]}"
    detail = f"a route of this service is required; {what} is none. See /openapi.json"
    return Problem(err.status_code, reason, detail, headers=err.headers or {}).response(
        request.scope["exchange"].request_id
    )
