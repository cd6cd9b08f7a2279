"""`/v1/enhance` and `/v1/enhance/batch`: images in, images out."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.image_request import Done, ImageRequest
from sr_tile.serving.http.options import Options, read_options
from sr_tile.serving.http.schemas import BATCH_BODY, BODY, IMAGES, TIMING, answers
from sr_tile.serving.http.state import MEDIA, Server, result_name, timing
from sr_tile.serving.http.uploads import StoredFileResponse, is_form, read_form
from sr_tile.serving.http.zip_results import pack


def add_enhance(app: FastAPI) -> None:
    @app.post(
        "/v1/enhance",
        tags=["images"],
        summary="Enhance one image",
        response_class=Response,
        responses={
            200: {
                "description": "The image, as `sr-tile enhance` would write it.",
                "content": IMAGES,
                "headers": TIMING,
            },
            **answers(400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 507),
        },
        openapi_extra=BODY,
    )
    async def enhance(request: Request, options: Annotated[Options, Query()]) -> Response:
        """The body is the file itself, or a multipart form with one file; options in the query or as fields."""
        since = time.perf_counter()
        server: Server = request.app.state.server
        place = await server.place(request)
        try:
            name, path, options = await server.receive(request, options, place.folder)
            task = ImageRequest(path, place.folder, name, options)
            done = await server.run(task, request)
            return StoredFileResponse(
                done.path,
                media_type=MEDIA[done.format],
                filename=result_name(name, done.format, done.after[0] // done.before[0]),
                headers={"Server-Timing": timing(done, since)},
                on_sent=place.release,
            )
        except BaseException:
            await asyncio.shield(run_in_threadpool(place.release))
            raise


def add_batch(app: FastAPI) -> None:
    @app.post(
        "/v1/enhance/batch",
        tags=["images"],
        summary="Enhance several images",
        response_class=Response,
        responses={
            200: {
                "description": "A ZIP archive of the results with `report.json`; one bad image never stops the rest.",
                "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            },
            **answers(400, 401, 403, 408, 413, 422, 429, 500, 503, 507),
        },
        openapi_extra=BATCH_BODY,
    )
    async def enhance_batch(request: Request, options: Annotated[Options, Query()]) -> Response:
        """The body is a multipart form with any number of files, up to the server's limit; options as for one."""
        server: Server = request.app.state.server
        place = await server.place(request)  # one place: its images take turns with those of others
        try:
            if not is_form(request):
                raise HttpError(400, "bad_form", "send the images as multipart/form-data, each in a field of its own")
            files, fields = await read_form(request, server.pool.limits, place.folder, server.pool.limits.files)
            options = read_options(fields, options)
            server.pool.models.find(options)
            tasks = []
            for number, (name, path) in enumerate(files):
                own = place.folder / f"{number}"
                await run_in_threadpool(own.mkdir)
                tasks.append(ImageRequest(path, own, name, options))
            archive = await _run_batch(server, tasks, request, place.folder / "results.zip")
            return StoredFileResponse(
                archive, media_type="application/zip", filename="results.zip", on_sent=place.release
            )
        except BaseException:
            await asyncio.shield(run_in_threadpool(place.release))
            raise


async def _run_batch(server: Server, tasks: list[ImageRequest], request: Request, archive: Path) -> Path:
    """All images into one archive; as many at a time as the pool has threads."""
    gate = asyncio.Semaphore(max(1, server.pool.limits.running // 2))  # others want to come in between

    async def one(task: ImageRequest) -> Done | HttpError:
        async with gate:
            try:
                return await server.run(task, request)
            except HttpError as refusal:
                return refusal

    gone = False
    try:
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(one(task)) for task in tasks]
    except* ClientDisconnect:
        gone = True
    if gone:
        raise ClientDisconnect
    results = [(task.name, item.result()) for task, item in zip(tasks, work, strict=True)]
    await run_in_threadpool(pack, archive, results)
    return archive
