"""Images of the web page: what becomes of them can be asked for, and results are kept for a while."""

import asyncio
import errno
import logging
import os
import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sr_tile.images.deep_zoom import Pyramid, write_pyramid
from sr_tile.serving.http.http_errors import HttpError, http_error_of
from sr_tile.serving.http.image_request import Done, ImageRequest
from sr_tile.serving.http.limits import Slot
from sr_tile.serving.http.model_pool import ModelPool
from sr_tile.serving.http.request_folders import RequestFolders, bytes_on_disk

log = logging.getLogger("sr_tile")

_EVERY_SECONDS = 2.0


@dataclass(eq=False)
class StoredJob:
    """One image that is known by an id; `bytes` is the size of its result, `stored` that of all its files once done."""

    task: ImageRequest
    slot: Slot
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    started: bool = False
    done: Done | None = None
    refusal: HttpError | None = None
    views: dict[str, Pyramid] = field(default_factory=dict)
    view_failed: bool = False
    touched: float = field(default_factory=time.monotonic)
    bytes: int = 0
    stored: int | None = None
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

    def __init__(self, pool: ModelPool, folders: RequestFolders) -> None:
        self._pool, self._folders = pool, folders
        self._items: dict[str, StoredJob] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, task: ImageRequest, slot: Slot) -> StoredJob:
        """Start an image whose place was taken with `Admission.enter`; it is given back when the image is done."""
        item = StoredJob(task, slot)
        item.future = self._pool.executor.submit(self._run, item)
        self._items[item.id] = item
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
        """Forget an image, however often and from wherever; its files go once nobody works on them."""
        self._items.pop(item.id, None)
        item.task.abandon()
        if item.future is None or item.future.done() or item.future.cancel():
            item.slot.release()
            self._folders.remove(item.task.folder)
        else:
            item.future.add_done_callback(lambda _: self._folders.remove(item.task.folder))

    def _run(self, item: StoredJob) -> None:
        item.started = True
        try:
            try:
                done = self._pool.run(item.task)
                item.bytes = done.path.stat().st_size
                item.done = done
            except Exception as error:
                item.refusal = refusal_of(error, item.task)
            finally:
                item.slot.release()
            if item.done:
                self._view(item, item.done)
        finally:
            item.touched = time.monotonic()
            item.stored = bytes_on_disk(item.task.folder)
            self.tidy()

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
        """Forget what was not asked for in a while or is gone, and the oldest where too much is kept.

        What is under way counts as well: it cannot be removed, so that finished images make room for it.
        """
        items, limits = list(self._items.values()), self._pool.limits
        finished = sorted((item for item in items if item.stored is not None), key=_touched)
        measured = {item.task.folder for item in finished}
        kept = sum(item.stored or 0 for item in finished)
        kept += sum(bytes_on_disk(folder) for folder in self._folders.existing() if folder not in measured)
        known = len(items)
        for item in finished:
            late = time.monotonic() - item.touched > limits.keep_seconds
            gone = item.done is not None and not item.task.folder.is_dir()
            if late or gone or kept > limits.kept_bytes or known > limits.kept_jobs:
                kept, known = kept - (item.stored or 0), known - 1
                self.remove(item)

    async def evict_periodically(self) -> None:
        """`tidy`, now and then, and see to it that there is a folder for files."""
        while True:
            await asyncio.sleep(min(_EVERY_SECONDS, self._pool.limits.keep_seconds / 2))
            await asyncio.to_thread(self._folders.restore)
            await asyncio.to_thread(self.tidy)

    def close(self) -> None:
        """Give up all that is under way."""
        for item in list(self._items.values()):
            self.remove(item)


def refusal_of(error: BaseException, task: ImageRequest) -> HttpError:
    """What a client is told; what is the server's own fault is logged."""
    refusal = http_error_of(error, task.names)
    if refusal.status < 500 and not task.folder.is_dir():  # the image is not at fault: its file is gone
        refusal = http_error_of(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if refusal.status in (500, 507):
        log.error("%s: %s", task.name, error, exc_info=error if refusal.code == "internal" else None)
    return refusal


def _touched(item: StoredJob) -> float:
    return item.touched


def view_folder(item: StoredJob, side: str) -> Path:
    """Where the tiles of one side of a preview lie."""
    return item.task.folder / f"view-{side}"
