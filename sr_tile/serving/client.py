"""`sr-tile enhance --server URL`: the files go to a server, and its answers into the results."""

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError, ServingError, SrTileError
from sr_tile.images import ImageInfo, ImageReader, ImageWriter, TargetSize, WriteOptions, format_by_content, format_of
from sr_tile.images.content_type import CHOOSE_PAGE
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.target_size import parse_box
from sr_tile.images.vips import reason_of
from sr_tile.models.spec import LARGEST
from sr_tile.pipeline.image_job import ImageJob, Outcome
from sr_tile.system.atomic_file import TargetError, atomic_write

_BLOCK = 2**18
_HEAD = 64  # bytes that tell a format
_PATIENCE = 600.0  # seconds of being told to come back later, one image
_ANSWER_SECONDS = 3600.0  # without a byte
_ATTEMPT_SECONDS = 4 * 3600.0  # from the first byte sent to the last of the answer, however slowly they drip
_PIXEL_BYTES = 32  # of a result at most: four channels of 32 bits, twice for what encoders and smaller copies add
_METADATA_BYTES = 2**24  # beside twice those of the source
_READ = ("unreadable_image", "unknown_format", "too_large")


@dataclass(frozen=True, kw_only=True)
class _FileJob(ImageJob):
    """A job of files, for a machine that has no use for pixels."""

    source: Path
    target: Path
    overwrite: bool
    options: WriteOptions


def _open(source: Path | str) -> ImageReader:
    try:
        return ImageReader(source)
    except ImageReadError as error:
        raise ImageReadError(str(error).replace(CHOOSE_PAGE, "")) from None


class RemoteEnhancer:
    """Has the face of `Enhancer` that `run_files` needs, and lets a server do the work.

    Args:
        server: its address, such as http://127.0.0.1:8000.
        token: that it asks for.
        options: what is sent with each image: model, scale, width, strength, precision and others that
            `/openapi.json` of the server names.
        at_once: images under way at the same time.
        on_progress: called with (job, pixels of an image that was finished), from another thread.

    Raises:
        ArgumentError: the address is none.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        at_once: int = 4,
        on_progress: Callable[[ImageJob, int], None] = lambda job, pixels: None,
    ) -> None:
        try:
            self._address = urlsplit(server if "//" in server else f"http://{server}")
            usable = (
                server.isprintable()
                and " " not in server
                and self._address.scheme in ("http", "https")
                and self._address.hostname
                and self._address.port != 0
                and self._address.hostname.encode("idna")
            )
        except ValueError:  # brackets, a port that is no number, or a name with empty or long parts
            usable = False
        if not usable:
            raise ArgumentError(f"server {server!r} is no address; write for example http://127.0.0.1:8000")
        self._headers = {"Content-Type": "application/octet-stream"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._options = {key: value for key, value in (options or {}).items() if value is not None}
        self._at_once, self._on_progress = at_once, on_progress

    def file_job(
        self,
        source: Path | str,
        target: Path | str,
        *,
        overwrite: bool = False,
        options: WriteOptions | None = None,
        excerpt: Excerpt | None = None,
    ) -> ImageJob:
        """As `Enhancer.file_job`, of files of one picture.

        Raises:
            ArgumentError: pages are chosen.
        """
        if excerpt:
            raise ArgumentError("a server takes files of one picture: pages cannot be chosen there")

        def open_sink(info: Any) -> ImageWriter:
            return ImageWriter(target, info, options=options, overwrite=overwrite)

        return _FileJob(
            str(source),
            lambda: _open(source),
            open_sink,
            source=Path(source),
            target=Path(target),
            overwrite=overwrite,
            options=options or WriteOptions(),
        )

    def enhance_file(
        self, source: Path | str, target: Path | str, *, overwrite: bool = False, options: WriteOptions | None = None
    ) -> None:
        """See `Enhancer.enhance_file`, for a file of one picture.

        Raises:
            SrTileError: what the server, or this machine's disk, had to say.
        """
        for outcome in self.run([self.file_job(source, target, overwrite=overwrite, options=options)]):
            if outcome.error:
                raise outcome.error

    def run(self, jobs: Iterable[ImageJob]) -> Iterator[Outcome]:
        """Do many jobs; outcomes come as they are ready, and a failed job never stops the others."""
        pending: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(self._at_once, "sr-tile client") as pool:
            try:
                for index, job in enumerate(jobs):
                    if len(pending) >= self._at_once:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in done)
                    pending.add(pool.submit(self._one, job, index))
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, job: ImageJob, index: int) -> Outcome:
        assert isinstance(job, _FileJob)  # made by file_job
        try:
            pixels = self._transfer(job)
        except SrTileError as error:
            return Outcome(job, index, error)
        self._on_progress(job, pixels)
        return Outcome(job, index, None, pixels)

    def _transfer(self, job: _FileJob) -> int:
        """Send one image until it is taken, and store the answer; the number of its pixels."""
        wanted = job.options.format or format_of(job.target)
        with closing(job.open_source()) as reader:  # refuses what is no image
            pixels, most = reader.info.pixels, self._most_bytes(reader.info, job.source)
        query = urlencode({**self._options, **_encoding(job.options), "format": wanted})
        path = f"{self._address.path.rstrip('/')}/v1/enhance?{query}"
        end = time.monotonic() + _PATIENCE
        while (pause := self._attempt(job, path, most)) is not None:
            if time.monotonic() + pause > end:
                raise ServingError(f"{job.name}: {self._address.netloc} stays busy; try again later")
            time.sleep(pause)
        return pixels

    def _most_bytes(self, info: ImageInfo, source: Path) -> int:
        """More than the result of a picture takes: a server that never stops does not fill the disk."""
        names = [field.name for field in fields(TargetSize) if isinstance(self._options.get(field.name), int | float)]
        given = {name: self._options[name] for name in names}
        if fit := self._options.get("fit"):
            given["fit"] = parse_box(str(fit))
        scale = LARGEST["scale"]
        height, width = TargetSize(**given).of(info.height, info.width) or (scale * info.height, scale * info.width)
        return _PIXEL_BYTES * height * width + 2 * source.stat().st_size + _METADATA_BYTES

    def _attempt(self, job: _FileJob, path: str, most: int) -> float | None:
        """Send one image once; seconds to wait where the server is busy. An answer of more bytes than `most` is none."""
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(self._address.hostname), self._address.port, timeout=_ANSWER_SECONDS, blocksize=_BLOCK)
        with contextlib.closing(connection), contextlib.ExitStack() as stack:
            try:
                connection.connect()
                stack.enter_context(_cut_off(connection.sock, _ATTEMPT_SECONDS))
                with job.source.open("rb") as file:
                    size = str(os.fstat(file.fileno()).st_size)
                    # A server that refuses early stops reading: what it said is still there to be read.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        connection.request("POST", path, file, {**self._headers, "Content-Length": size})
                answer = connection.getresponse()
                if answer.status == 200:
                    self._store(answer, job, most)
                    return None
                content = answer.read(2**16)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise ServingError(
                    f"{job.name}: {self._address.netloc} cannot be reached: {reason}; is the address right, and `sr-tile "
                    "serve` running there?"
                ) from None
        if answer.status in (429, 503):
            after = answer.headers.get("Retry-After", "2")
            return float(after) if after.isdecimal() else 2.0
        raise self._error(job, answer.status, content)

    def _error(self, job: _FileJob, status: int, content: bytes) -> SrTileError:
        """What the server said, as the error that the same fault is on this machine."""
        try:
            error = json.loads(content)["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, KeyError, TypeError, RecursionError):  # brackets by the thousand
            return ServingError(f"{job.name}: {self._address.netloc} answered {status}; is it `sr-tile serve`?")
        message = message.removeprefix("image: ")
        if status == 401:
            return ServingError(f"{job.name}: {self._address.netloc} asks for its token; set it in SR_TILE_TOKEN")
        if code in _READ:
            return ImageReadError(f"{job.name}: {message}")
        if code == "cannot_store":
            return ImageWriteError(f"{job.target}: {message}")
        return ServingError(f"{job.name}: {message}")

    def _store(self, answer: http.client.HTTPResponse, job: _FileJob, most: int) -> None:
        """The answer into a file that appears when it is whole."""
        try:
            with atomic_write(job.target, overwrite=job.overwrite, durable=True) as part, part.open("wb") as file:
                head = answer.read(_HEAD)
                whole = answer.length is not None or answer.chunked  # else it ends wherever the connection does
                if not whole or format_by_content(head) != (job.options.format or format_of(job.target)):
                    where = self._address.netloc
                    raise ServingError(f"{job.name}: {where} answered with no such picture; is it `sr-tile serve`?")
                file.write(head)
                size = len(head) + (answer.length or 0)  # which is what is left
                while size <= most and (block := answer.read(_BLOCK)):
                    file.write(block)
                    size += len(block) if answer.chunked else 0
                if size > most:
                    where = self._address.netloc
                    raise ServingError(
                        f"{job.name}: {where} answered with over {most} bytes, which no result has; is it `sr-tile serve`?"
                    )
                if answer.length:  # http.client ends quietly where the connection does
                    raise http.client.IncompleteRead(b"")
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError):
            raise ServingError(f"{job.name}: the answer broke off; try again") from None
        except TargetError as error:
            raise ImageWriteError(f"{job.target}: {error.strerror}") from None
        except OSError as error:
            raise ImageWriteError(f"{job.target}: cannot be written: {reason_of(error)}") from None


@contextlib.contextmanager
def _cut_off(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Ends a connection after a time: whoever reads from it finds that it was closed."""

    def end() -> None:
        with contextlib.suppress(OSError):  # closed meanwhile
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS as well, beneath it

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _encoding(options: WriteOptions) -> dict[str, Any]:
    """How the result is to be encoded, as far as a server is told."""
    given = {
        name: getattr(options, name) for name in ("quality", "lossless", "strip", "pyramid") if getattr(options, name)
    }
    return given | ({"background": "#{:02x}{:02x}{:02x}".format(*options.background)} if options.background else {})
