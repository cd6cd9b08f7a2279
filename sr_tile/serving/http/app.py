"""The HTTP face: routes, and what each takes and gives."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sr_tile import __version__
from sr_tile.errors import SrTileError
from sr_tile.serving.http import request_log, schemas
from sr_tile.serving.http.http_errors import HttpError, http_error_of
from sr_tile.serving.http.idle_timeout import RequestWatch
from sr_tile.serving.http.metrics import CONTENT_TYPE
from sr_tile.serving.http.model_pool import ModelPool
from sr_tile.serving.http.options import bad_option
from sr_tile.serving.http.routes_images import add_batch, add_enhance
from sr_tile.serving.http.routes_jobs import add_jobs
from sr_tile.serving.http.schemas import answers
from sr_tile.serving.http.security import SecurityMiddleware
from sr_tile.serving.http.state import Server

log = logging.getLogger("sr_tile")

PAGE = Path(__file__).parent.parent / "page"


def create_app(
    pool: ModelPool,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    on_failure: Callable[[BaseException], None] | None = None,
    on_request: Callable[[request_log.Request], None] | None = None,
) -> FastAPI:
    """The application around a pool of models, which it starts and stops.

    Args:
        pool: not started yet.
        token: that clients must show; None asks for none.
        hosts: names under which the server answers, see `SecurityMiddleware`.
        on_failure: is told when the models cannot be loaded.
        on_request: is told of each request when its answer ends.
    """

    async def load() -> None:
        try:
            await asyncio.to_thread(pool.start)
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(error)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server = app.state.server = Server(pool)
        tasks = [asyncio.create_task(load()), asyncio.create_task(server.tidy())]
        try:
            yield
        finally:
            server.job_store.close()
            await asyncio.gather(tasks[0], return_exceptions=True)
            tasks[1].cancel()
            await asyncio.to_thread(pool.stop)
            await asyncio.to_thread(server.folders.close)

    app = FastAPI(
        title="sr-tile",
        version=__version__,
        description=schemas.ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(SecurityMiddleware, token=token, hosts=hosts)
    if on_request:
        app.add_middleware(request_log.RequestLog, on_request=on_request)
    app.add_middleware(RequestWatch)  # outermost: the last to be added
    _add_errors(app)
    _add_health(app, pool)
    add_enhance(app)
    add_batch(app)
    add_jobs(app)
    _add_page(app)
    schemas.complete(app, token)
    return app


def _add_errors(app: FastAPI) -> None:
    async def answer(refusal: HttpError) -> Response:
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    @app.exception_handler(SrTileError)
    async def refused(request: Request, error: SrTileError) -> Response:
        return await answer(http_error_of(error))

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> Response:
        refusal = http_error_of(error)
        log.error("%s %s: %s", request.method, request.url.path, error, exc_info=refusal.status == 500)
        return await answer(refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await answer(bad_option(error.errors()))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "bad_request")
        refusal = HttpError(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")
        return JSONResponse(refusal.body, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return await answer(http_error_of(error))


def _add_health(app: FastAPI, pool: ModelPool) -> None:
    @app.get("/healthz", tags=["operation"], summary="Alive")
    async def healthz() -> dict[Literal["status"], Literal["ok"]]:
        """200 as long as the process answers, however much there is to do."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], summary="Ready for images", responses=answers(503))
    async def readyz(request: Request) -> schemas.Ready:
        """200 where images are accepted; 503 while models are loaded, no device or disk is left, or the server stops."""
        server: Server = request.app.state.server
        if server.admission.draining:
            raise HttpError(503, "stopping", "this server is stopping", retry_after=10)
        if not pool.models:
            raise HttpError(503, "loading", "the models are being loaded", retry_after=2)
        await run_in_threadpool(server.folders.check)
        for name, model in pool.models.items():
            if not await run_in_threadpool(model.shared.is_alive):
                raise HttpError(503, "no_device", f"no device is left for model {name}", retry_after=10)
        ready = [schemas.ReadyModel(name=name, device=model.engine.device) for name, model in pool.models.items()]
        return schemas.Ready(models=ready)

    @app.get(
        "/metrics",
        tags=["operation"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"application/openmetrics-text": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(await run_in_threadpool(pool.metrics.text), media_type=CONTENT_TYPE)

    @app.get("/v1/models", tags=["images"], summary="Models, limits and formats", responses=answers(503))
    async def models() -> schemas.Models:
        """What may be asked of this server."""
        if not pool.models:
            raise HttpError(503, "loading", "the models are being loaded; try again", retry_after=2)
        return schemas.describe(pool)


def _add_page(app: FastAPI) -> None:
    no_cache = {"Cache-Control": "no-cache"}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers=no_cache)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html", headers=no_cache)

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
