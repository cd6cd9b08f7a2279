"""Uploads to files: counted, timed, and never on the event loop."""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.limits import Limits

_BLOCK = 2**20
_FORM_FIELDS = 40
_FORM_FILES = 4  # files of the largest size that one form may hold
_FORM_ROOM = 2**20  # for headers and fields of a form


class UploadRateCheck:
    """Sees to it that an upload goes on: no pause beyond `idle_seconds`, and `slowest` on average."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._start, self._bytes = limits, time.monotonic(), 0

    def count(self, size: int) -> None:
        """Bytes came in.

        Raises:
            HttpError: 408, too few of them for the time.
        """
        self._bytes += size
        elapsed = time.monotonic() - self._start
        if elapsed > self._limits.idle_seconds and self._bytes < elapsed * self._limits.slowest:
            raise self.refusal()

    def refusal(self) -> HttpError:
        """The answer to an upload that is too slow."""
        return HttpError(
            408, "too_slow", f"the upload stopped, or brought less than {self._limits.slowest} bytes a second"
        )


async def chunks(request: Request, limits: Limits, files: int = 1) -> AsyncGenerator[bytes, None]:
    """The body, as long as it keeps to the limits.

    Raises:
        HttpError: 413 where it is too large, 408 where it is too slow.
        ClientDisconnect: nobody is there any more.
    """
    most = min(files, _FORM_FILES) * limits.bytes + (_FORM_ROOM if is_form(request) else 0)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most:
        limits.check_bytes(int(announced))
    total, pace = 0, UploadRateCheck(limits)
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), limits.idle_seconds)
        except TimeoutError:
            raise pace.refusal() from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = message.get("body", b"")
        total += len(body)
        if total > most:
            limits.check_bytes(total)
        if not message.get("more_body", False):
            yield body
            return
        pace.count(len(body))
        yield body


def is_form(request: Request) -> bool:
    """Whether the body is multipart, and not an image itself."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == "multipart/form-data"


async def read_raw(request: Request, limits: Limits, target: Path) -> None:
    """Store the body in a file."""
    waiting = bytearray()
    async for chunk in chunks(request, limits):
        waiting += chunk
        if len(waiting) >= _BLOCK:
            await run_in_threadpool(_append, target, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(_append, target, bytes(waiting))


def _append(target: Path, content: bytes) -> None:
    with target.open("ab") as file:
        file.write(content)


async def read_form(
    request: Request, limits: Limits, folder: Path, files: int = 1
) -> tuple[list[tuple[str, Path]], dict[str, Any]]:
    """Store the files of a form in `folder`.

    Returns:
        (name that the client gave, path) of each file, and the other fields by name.

    Raises:
        HttpError: 400 where it is no form or holds too many files, and as `chunks`.
    """
    parser = MultiPartParser(
        request.headers, chunks(request, limits, files), max_files=files, max_fields=_FORM_FIELDS, max_part_size=2**14
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HttpError(400, "bad_form", f"the multipart form cannot be read: {error.message}") from None
    try:
        stored: list[tuple[str, Path]] = []
        fields: dict[str, Any] = {}
        for key, value in form.multi_items():
            if isinstance(value, UploadFile):
                limits.check_bytes(value.size or 0)
                path = folder / f"source-{len(stored)}"
                await run_in_threadpool(_copy, value.file, path)
                stored.append((client_name(value.filename), path))
            else:
                fields[key] = value
    finally:
        await form.close()
    if not stored:
        raise HttpError(400, "no_file", "the form holds no file; send it as a field with a file name")
    return stored, fields


def _copy(source: IO[bytes], target: Path) -> None:
    source.seek(0)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)


def client_name(text: str | None) -> str:
    """The last part of a file name as a client gave it, fit to be shown and to be a name again."""
    last = (text or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in last if char.isprintable() and char not in '<>:"|?*')[-120:].strip(". ") or "image"


class StoredFileResponse(FileResponse):
    """A file that is let go once it was sent, or once nobody is there to take it."""

    chunk_size = _BLOCK  # each is a way to a thread and back

    def __init__(self, *arguments: Any, on_sent: Callable[[], None], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await asyncio.shield(run_in_threadpool(self._on_sent))
