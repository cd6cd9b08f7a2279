"""What the routes share: models, limits, temporary files, results of the page."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from sr_tile.images.formats import FILES
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.image_request import Done, ImageRequest
from sr_tile.serving.http.job_store import JobStore, refusal_of
from sr_tile.serving.http.limits import Admission, Slot
from sr_tile.serving.http.model_pool import ModelPool
from sr_tile.serving.http.options import Options, read_options
from sr_tile.serving.http.request_folders import RequestFolders
from sr_tile.serving.http.uploads import is_form, read_form, read_raw
from sr_tile.system import memory

MEDIA = {name: f"image/{name}" for name in FILES}
_SUFFIXES = {name: kind.suffixes[0] for name, kind in FILES.items()}
_WATCH_SECONDS = 0.2
_REST_SECONDS = 1.0
_BUSY_SECONDS = 0.5  # that a request waits for a place: who is refused and comes back at once takes others' time


@dataclass(frozen=True)
class RequestSlot:
    """What a request holds while it is under way: its folder, and its place in the count."""

    folder: Path
    slot: Slot

    def release(self) -> None:
        """Give both back; harmless when that was done."""
        RequestFolders.remove(self.folder)
        self.slot.release()


class Server:
    """One a process."""

    def __init__(self, pool: ModelPool) -> None:
        self.pool, self.folders = pool, RequestFolders()
        self.admission = Admission(pool.limits)
        self.job_store = JobStore(pool, self.folders)
        pool.metrics.in_flight.set_function(lambda: self.admission.active)
        pool.metrics.queued.set_function(lambda: pool.queued)
        pool.metrics.kept.set_function(lambda: len(self.job_store))

    async def place(self, request: Request) -> RequestSlot:
        """Count a request in, and give it a folder; whoever asks lets go of it.

        Raises:
            HttpError: there is no place, nor after a moment.
        """
        client = client_of(request)
        try:
            slot = self.admission.enter(client)
        except HttpError as refusal:
            if refusal.code not in ("too_many", "busy"):
                raise
            await asyncio.sleep(_BUSY_SECONDS)
            slot = self.admission.enter(client)
        try:
            return RequestSlot(await run_in_threadpool(self.folders.new), slot)
        except BaseException:
            slot.release()
            raise

    async def tidy(self) -> None:
        """See to files that nobody fetches, and to memory, now and then."""
        await asyncio.gather(self.job_store.evict_periodically(), self._rest())

    async def _rest(self) -> None:
        """Whenever the last image under way has ended, give the system the memory that was kept for the next."""
        seen = 0
        while True:
            await asyncio.sleep(_REST_SECONDS)
            if not self.admission.active and seen != self.admission.entered:
                seen = self.admission.entered
                await asyncio.to_thread(memory.give_back)

    async def receive(self, request: Request, options: Options, folder: Path) -> tuple[str, Path, Options]:
        """(name, path, options) of an upload, raw or as a form."""
        if not is_form(request):
            path = folder / "source"
            await read_raw(request, self.pool.limits, path)
            return "image", path, options
        [(name, path)], fields = await read_form(request, self.pool.limits, folder)
        return name, path, read_options(fields, options)

    async def run(self, task: ImageRequest, request: Request) -> Done:
        """Do an image in a thread; give it up when the client goes away.

        Raises:
            HttpError: what went wrong, as a client may see it.
            ClientDisconnect: nobody is there any more.
        """
        work = asyncio.get_running_loop().run_in_executor(self.pool.executor, self.pool.run, task)
        try:
            while not (await asyncio.wait({work}, timeout=_WATCH_SECONDS))[0]:
                if await request.is_disconnected():
                    raise ClientDisconnect
            return work.result()
        except ClientDisconnect:
            raise
        except Exception as error:
            raise refusal_of(error, task) from None
        finally:
            if not work.done():
                task.abandon()
                with suppress(BaseException):
                    await asyncio.shield(work)


def client_of(request: Request) -> str:
    """Whom limits count for: the address."""
    return request.client.host if request.client else "unknown"


def result_name(name: str, kind: str, scale: int) -> str:
    """How a result is called: photo-x2.png."""
    return f"{Path(name).stem}{f'-x{scale}' if scale > 1 else '-enhanced'}{_SUFFIXES[kind]}"


def timing(done: Done, since: float) -> str:
    """The header `Server-Timing`: milliseconds at work of each stage, and from the first byte to the answer."""
    stages = [f"{stage.name};dur={stage.busy * 1000:.1f}" for stage in done.stats.stages]
    return ", ".join([*stages, f"total;dur={(time.perf_counter() - since) * 1000:.1f}"])
