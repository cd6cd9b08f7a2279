"""Many images on one WebSocket: MessagePack maps, results as they finish.

    client                                                server
                                                          {type: hello, window: 16, chunk: 16777216}
    {type: image, id, options, data, more: true} ...
    {type: image, id, data}                       ->      {type: progress, id, done, total} ...
                                                          {type: result, id, format, timing, data, more: true} ...
    {type: cancel, id}                                    {type: error, id, status, code, message}

`id` is the client's, a number or a text; `more` says that the rest of the file follows. Each image ends with one result,
whose last part has `more: false`, or with one error. At most `window` images may be under way.
"""

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgpack
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.options import Options, read_options
from sr_tile.serving.http.uploads import Spool, UploadRateCheck, client_name
from sr_tile.serving.model_pool import ImageRequest

log = logging.getLogger("sr_tile")

CHUNK = 2**20  # bytes of a result in one message
LARGEST = 2**24  # bytes of a message, which uvicorn enforces
_PROGRESS_SECONDS = 0.1


def add_stream(app: FastAPI) -> None:
    """Add `/v1/stream` to an application."""

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await _Connection(socket).serve()


class _Image:
    """One image of a connection: a file that grows, then a task."""

    def __init__(self, identity: str | int, name: str, options: Options, folder: Path, pace: UploadRateCheck) -> None:
        self.id, self.folder, self.pace = identity, folder, pace
        self.task = ImageRequest(folder / "source", folder, name, options)
        self.file: IO[bytes] | None = self.task.source.open("wb")
        self.size, self.touched = 0, time.monotonic()
        self.work: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        assert self.file is not None  # closed only once the last part was written
        self.file.write(data)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class _Connection:
    """One client. A single coroutine receives; each image is worked on in a task of its own."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._server = socket, socket.app.state.server
        self._limits, self._admission = self._server.host.limits, self._server.admission
        self._client = socket.client.host if socket.client else "unknown"
        self._images: dict[str | int, _Image] = {}
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        await self._send({"type": "hello", "window": self._limits.per_client, "chunk": LARGEST})
        try:
            while True:
                await self._take(await self._receive())
        except (WebSocketDisconnect, RuntimeError):  # the latter where it was closed by a sender
            pass
        finally:
            for image in list(self._images.values()):
                image.task.abandon()
                if image.work is None:
                    await self._end(image)
            works = [image.work for image in self._images.values() if image.work]
            if works:
                await asyncio.shield(asyncio.gather(*works, return_exceptions=True))

    async def _receive(self) -> bytes:
        """The next message; images whose upload stopped are given up meanwhile."""
        incoming = asyncio.ensure_future(self._socket.receive())
        try:
            while True:
                done, _ = await asyncio.wait({incoming}, timeout=min(1.0, self._limits.idle_seconds))
                if done:
                    message = incoming.result()
                    if message["type"] == "websocket.disconnect":
                        raise WebSocketDisconnect
                    return message.get("bytes") or (message.get("text") or "").encode()
                now = time.monotonic()
                for image in list(self._images.values()):
                    if image.work is None and now - image.touched > self._limits.idle_seconds:
                        await self._fail(image, image.pace.refusal())
        finally:
            incoming.cancel()

    async def _take(self, packed: bytes) -> None:
        """Act on one message; what is wrong with it is answered, and the connection goes on."""
        identity: Any = None
        try:
            message = _unpack(packed)
            identity = message["id"]
            if message["type"] == "cancel":
                image = self._images.get(identity)
                if image is None:
                    return
                image.task.abandon()
                if image.work is None:
                    await self._fail(image, HttpError(422, "cancelled", "cancelled"))
                return
            await self._add(identity, message)
        except HttpError as refusal:
            image = self._images.get(identity) if isinstance(identity, str | int) else None
            if image is not None and image.work is None:
                await self._fail(image, refusal)
            else:
                await self._send_refusal(identity, refusal)

    async def _add(self, identity: str | int, message: dict[str, Any]) -> None:
        """Store a part of an image, and start the work when it was the last."""
        image = self._images.get(identity)
        if image is None:
            image = await self._open(identity, message)
        elif image.work is not None:
            raise HttpError(422, "bad_message", f"an image with the id {identity!r} is under way; choose another id")
        image.touched = time.monotonic()
        image.size += len(message["data"])
        self._limits.check_bytes(image.size)
        image.pace.count(len(message["data"]))
        await run_in_threadpool(image.write, message["data"])
        if not message["more"]:
            await run_in_threadpool(image.close)
            image.work = asyncio.create_task(self._work(image))

    async def _open(self, identity: str | int, message: dict[str, Any]) -> _Image:
        options = read_options(message["options"])
        name = client_name(message["name"] or "image")
        self._admission.enter(self._client)
        try:
            folder = await run_in_threadpool(self._server.spool.folder)
            image = await run_in_threadpool(_Image, identity, name, options, folder, UploadRateCheck(self._limits))
        except BaseException:
            self._admission.leave(self._client)
            raise
        self._images[identity] = image
        return image

    async def _work(self, image: _Image) -> None:
        """Do one image and send what becomes of it."""
        loop, task = asyncio.get_running_loop(), image.task
        work = loop.run_in_executor(self._server.host.pool, self._server.host.run, task)
        try:
            told = 0
            while not (await asyncio.wait({work}, timeout=_PROGRESS_SECONDS))[0]:
                if task.tiles_done != told and not self._sending.locked():
                    told = task.tiles_done
                    await self._send({"type": "progress", "id": image.id, "done": told, "total": task.tiles})
            done = work.result()
            timing = {stage.name: stage.busy for stage in done.stats.stages}
            answer = {"type": "result", "id": image.id, "format": done.format, "timing": timing}
            await self._send_file(answer, done.path)
        except (WebSocketDisconnect, RuntimeError):
            pass
        except Exception as error:
            refusal = HttpError(422, "cancelled", "cancelled") if task.abandoned else self._server.refusal(error, task)
            await self._send_refusal(image.id, refusal)
        finally:
            await self._end(image)

    async def _send_file(self, answer: dict[str, Any], path: Path) -> None:
        file: IO[bytes] = await run_in_threadpool(path.open, "rb")
        try:
            size = path.stat().st_size
            for start in range(0, size, CHUNK):
                data = await run_in_threadpool(file.read, CHUNK)
                await self._send({**answer, "data": data, "more": start + CHUNK < size})
        finally:
            await run_in_threadpool(file.close)

    async def _fail(self, image: _Image, refusal: HttpError) -> None:
        """End an image whose upload is not complete."""
        await self._end(image)
        await self._send_refusal(image.id, refusal)

    async def _end(self, image: _Image) -> None:
        if self._images.get(image.id) is image:
            del self._images[image.id]
            self._admission.leave(self._client)
            await asyncio.shield(run_in_threadpool(_remove, image))

    async def _send_refusal(self, identity: Any, refusal: HttpError) -> None:
        message = {"type": "error", "id": identity, "status": refusal.status, **refusal.body["error"]}
        if refusal.retry_after is not None:
            message["retry_after"] = refusal.retry_after
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._send(message)

    async def _send(self, message: dict[str, Any]) -> None:
        """One message at a time; it waits for the client to take it."""
        async with self._sending:
            await self._socket.send_bytes(msgpack.packb(message))


def _remove(image: _Image) -> None:
    image.close()
    Spool.remove(image.folder)


def _unpack(packed: bytes) -> dict[str, Any]:
    """A message of the client, complete and checked.

    Raises:
        HttpError: it is none.
    """
    try:
        message = msgpack.unpackb(packed)
    except Exception:  # msgpack raises many kinds, some of them its own
        raise HttpError(400, "bad_message", "the message is no MessagePack map") from None
    kinds: dict[str, Any] = {"data": bytes, "more": bool, "options": dict, "name": str | None}
    complete: dict[str, Any] = {"data": b"", "more": False, "options": {}, "name": None}
    if not isinstance(message, dict) or message.get("type") not in ("image", "cancel"):
        raise HttpError(400, "bad_message", "a message is a map whose `type` is image or cancel")
    complete.update({key: message[key] for key in message if key in {*kinds, "id", "type"}})
    if not isinstance(complete.get("id"), str | int) or len(str(complete["id"])) > 100:
        raise HttpError(400, "bad_message", "`id` must be a number or a short text")
    for key, kind in kinds.items():
        if not isinstance(complete[key], kind):
            raise HttpError(400, "bad_message", f"`{key}` is of a wrong type")
    if not all(isinstance(key, str) for key in complete["options"]):
        raise HttpError(400, "bad_message", "names of options are texts")
    return complete
