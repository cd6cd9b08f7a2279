"""`/v1/jobs`: images that take a while, as the web page asks for them."""

import asyncio
from functools import partial
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from sr_tile.errors import SrTileError
from sr_tile.serving.http import schemas
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.image_request import Done, ImageRequest
from sr_tile.serving.http.job_store import JobStore, StoredJob, refusal_of, view_folder
from sr_tile.serving.http.options import Options
from sr_tile.serving.http.schemas import BODY, IMAGES, answers
from sr_tile.serving.http.state import MEDIA, Server, result_name
from sr_tile.serving.http.uploads import StoredFileResponse
from sr_tile.serving.http.zip_results import pack


def add_jobs(app: FastAPI) -> None:
    missing = answers(401, 403, 404)
    jobs = partial(app.api_route, tags=["jobs"])

    @jobs(
        "/v1/jobs",
        methods=["POST"],
        status_code=201,
        summary="Start an image",
        openapi_extra=BODY,
        responses=answers(400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 507),
    )
    async def start_job(request: Request, options: Annotated[Options, Query()]) -> schemas.Job:
        """As `/v1/enhance`, but answers as soon as the upload is there; ask for progress, then for the result."""
        server: Server = request.app.state.server
        place = await server.place(request)
        try:
            name, path, options = await server.receive(request, options, place.folder)
            task = ImageRequest(path, place.folder, name, options)
            try:
                await run_in_threadpool(lambda: (server.pool.models.find(options), server.pool.check(task)))
            except (SrTileError, OSError) as error:
                raise refusal_of(error, task) from None
            return schemas.Job(**server.job_store.add(task, place.slot).describe())
        except BaseException:
            await asyncio.shield(run_in_threadpool(place.release))
            raise

    @jobs("/v1/jobs/{job}", methods=["GET"], summary="How far an image is", responses=missing)
    async def job_state(request: Request, job: str) -> schemas.Job:
        return schemas.Job(**request.app.state.server.job_store.find(job).describe())

    @jobs(
        "/v1/jobs/{job}", methods=["DELETE"], status_code=204, summary="Give up or forget an image", responses=missing
    )
    async def forget_job(request: Request, job: str) -> None:
        job_store: JobStore = request.app.state.server.job_store
        await run_in_threadpool(job_store.remove, job_store.find(job))

    _add_results(app)
    _add_archive(app)


def _add_archive(app: FastAPI) -> None:
    @app.get(
        "/v1/results",
        tags=["jobs"],
        summary="Results of several jobs",
        response_class=Response,
        responses={
            200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
            **answers(401, 403, 422, 429, 503, 507),
        },
    )
    async def job_results(request: Request, job: Annotated[list[str], Query(min_length=1, max_length=512)]) -> Response:
        """A ZIP archive of the results with `report.json`, which says what is not done, or not here any more."""
        server: Server = request.app.state.server
        results = await run_in_threadpool(lambda: [_kept(server, identity) for identity in job])
        place = await server.place(request)
        try:
            archive = place.folder / "results.zip"
            await run_in_threadpool(partial(pack, archive, results, keep=True))
            return StoredFileResponse(
                archive, media_type="application/zip", filename="results.zip", on_sent=place.release
            )
        except BaseException:
            await asyncio.shield(run_in_threadpool(place.release))
            raise


def _kept(server: Server, identity: str) -> tuple[str, Done | HttpError]:
    """The name that the result of a job gets in an archive, and the result, or why there is none."""
    try:
        item = server.job_store.find(identity)
    except HttpError as refusal:
        return identity, refusal
    if item.done is None:
        return item.task.name, item.refusal or HttpError(409, "not_done", "the image is not done yet")
    try:
        return _named(item), item.done
    except HttpError as refusal:
        return item.task.name, refusal


def _named(item: StoredJob) -> str:
    """The name of a result that is here.

    Raises:
        HttpError: it is not any longer.
    """
    assert item.done is not None  # the caller has looked
    if not item.done.path.is_file():
        raise HttpError(404, "unknown_job", "the result of this job is not here any longer")
    return result_name(item.task.name, item.done.format, item.done.after[0] // item.done.before[0])


def _add_results(app: FastAPI) -> None:
    jobs = partial(app.api_route, tags=["jobs"])

    @jobs(
        "/v1/jobs/{job}/result",
        methods=["GET"],
        summary="The result",
        response_class=Response,
        responses={200: {"content": IMAGES}, **answers(401, 403, 404, 409)},
    )
    async def job_result(request: Request, job: str) -> Response:
        item = request.app.state.server.job_store.find(job)
        if item.done is None:
            raise HttpError(409, "not_done", "the image is not done yet; ask /v1/jobs/{job} how far it is")
        name = await run_in_threadpool(_named, item)
        return FileResponse(item.done.path, media_type=MEDIA[item.done.format], filename=name)

    @jobs(
        "/v1/jobs/{job}/view/{side}/{level}/{column}/{row}",
        methods=["GET"],
        summary="One tile of a preview",
        response_class=Response,
        responses={
            200: {"content": {name: IMAGES[name] for name in ("image/jpeg", "image/png")}},
            **answers(401, 403, 404, 422),
        },
    )
    async def job_view(
        request: Request, job: str, side: Literal["before", "after"], level: int, column: int, row: int
    ) -> Response:
        """A tile of the image before or after, at a level of its pyramid; 8-bit sRGB, for viewers."""
        item = request.app.state.server.job_store.find(job)
        view = item.views.get(side)
        if view is None:
            raise HttpError(404, "no_view", "there is no preview of this image, or not yet")
        if max(level, column, row) >= 2**31:  # no file can be called so
            raise HttpError(404, "no_tile", "the preview has no such tile")
        path = view_folder(item, side) / str(level) / f"{column}_{row}.{view.suffix}"
        if not await run_in_threadpool(path.is_file):
            raise HttpError(404, "no_tile", "the preview has no such tile")
        media = "image/jpeg" if view.suffix == "jpg" else "image/png"
        return FileResponse(path, media_type=media, headers={"Cache-Control": "private, max-age=3600, immutable"})
