"""Images of the web page: what becomes of them can be asked for, and results are kept for a while."""

import asyncio
import logging
import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sr_tile.images.deep_zoom import Pyramid, write_pyramid
from sr_tile.serving.http.http_errors import HttpError, http_error_of
from sr_tile.serving.http.limits import Admission
from sr_tile.serving.http.uploads import Spool
from sr_tile.serving.model_pool import Done, ImageRequest, ModelPool

log = logging.getLogger("sr_tile")


@dataclass(eq=False)
class StoredJob:
    """One image on the job_store."""

    task: ImageRequest
    client: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    started: bool = False
    done: Done | None = None
    refusal: HttpError | None = None
    views: dict[str, Pyramid] = field(default_factory=dict)
    view_failed: bool = False
    touched: float = field(default_factory=time.monotonic)
    bytes: int = 0
    future: Future[None] | None = None

    @property
    def state(self) -> str:
        """`waiting`, `running`, `done` or `failed`."""
        if self.refusal:
            return "failed"
        return "done" if self.done else "running" if self.started else "waiting"

    def describe(self) -> dict[str, Any]:
        """What a client may know."""
        task, done = self.task, self.done
        content: dict[str, Any] = {
            "id": self.id,
            "name": task.name,
            "state": self.state,
            "tiles": task.tiles,
            "tiles_done": task.tiles_done,
            "error": self.refusal.body["error"] if self.refusal else None,
            "result": None,
            "view": None,
            "view_failed": self.view_failed,
        }
        if done:
            content["result"] = {
                "format": done.format,
                "before": done.before,
                "after": done.after,
                "bytes": self.bytes,
                "seconds": round(done.stats.seconds, 3),
            }
        if len(self.views) == 2:
            content["view"] = {side: vars(pyramid) for side, pyramid in self.views.items()}
        return content


class JobStore:
    """Keeps images by an id that nobody can guess."""

    def __init__(self, host: ModelPool, admission: Admission, spool: Spool) -> None:
        self._host, self._admission, self._spool = host, admission, spool
        self._items: dict[str, StoredJob] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, task: ImageRequest, client: str) -> StoredJob:
        """Start an image whose place was taken with `Admission.enter`; it is given back when the image is done."""
        item = StoredJob(task, client)
        self._items[item.id] = item
        item.future = self._host.pool.submit(self._run, item)
        return item

    def find(self, identity: str) -> StoredJob:
        """An image, which is then kept for longer.

        Raises:
            HttpError: it is not here, or not any more.
        """
        item = self._items.get(identity)
        if item is None:
            raise HttpError(404, "unknown_job", "there is no such job, or its result was not kept any longer")
        item.touched = time.monotonic()
        return item

    def remove(self, item: StoredJob) -> None:
        """Forget an image; its files go once nobody works on them."""
        self._items.pop(item.id, None)
        item.task.abandon()
        if item.future is None or item.future.done() or item.future.cancel():
            self._let_go(item)
        else:
            item.future.add_done_callback(lambda _: self._spool.remove(item.task.folder))

    def _let_go(self, item: StoredJob) -> None:
        if item.future is not None and item.future.cancelled():
            self._admission.leave(item.client)
        self._spool.remove(item.task.folder)

    def _run(self, item: StoredJob) -> None:
        item.started = True
        try:
            try:
                done = self._host.run(item.task)
                item.bytes = done.path.stat().st_size
                item.done = done
            except Exception as error:
                item.refusal = http_error_of(error, item.task.names)
                if item.refusal.status == 500:
                    log.error("%s: %s", item.task.name, error, exc_info=item.refusal.code == "internal")
            finally:
                self._admission.leave(item.client)
            if item.done:
                self._view(item, item.done)
        finally:
            item.touched = time.monotonic()

    def _view(self, item: StoredJob, done: Done) -> None:
        try:
            for side, path in (("before", item.task.source), ("after", done.path)):
                if item.task.abandoned:
                    return
                item.views[side] = write_pyramid(path, view_folder(item, side))
        except Exception as error:  # a result without a preview is still a result
            item.view_failed = True
            log.warning("%s: no preview: %s", item.task.name, error)

    def tidy(self) -> None:
        """Forget what was not asked for in a while, and the oldest where too much is kept."""
        finished = sorted((item for item in self._items.values() if item.future and item.future.done()), key=_touched)
        kept = sum(item.bytes for item in finished)
        for item in finished:
            late = time.monotonic() - item.touched > self._host.limits.keep_seconds
            if late or kept > self._host.limits.kept_bytes:
                kept -= item.bytes
                self.remove(item)

    async def evict_periodically(self) -> None:
        """`tidy`, now and then."""
        while True:
            await asyncio.sleep(min(15.0, self._host.limits.keep_seconds / 2))
            await asyncio.to_thread(self.tidy)

    def close(self) -> None:
        """Give up all that is under way."""
        for item in list(self._items.values()):
            self.remove(item)


def _touched(item: StoredJob) -> float:
    return item.touched


def view_folder(item: StoredJob, side: str) -> Path:
    """Where the tiles of one side of a preview lie."""
    return item.task.folder / f"view-{side}"
