"""What a server takes on: sizes, timeouts, and how many images at a time."""

import threading
import weakref
from dataclasses import dataclass, field

from sr_tile.errors import ArgumentError
from sr_tile.images import ImageInfo
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.system import memory
from sr_tile.system.cpu import thread_count


def images_at_once() -> int:
    """One for each core and one more, 8 at most: others would take memory, and the time of the event loop."""
    return min(8, thread_count() + 1)


@dataclass(frozen=True)
class Limits:
    """Bounds of one server.

    Attributes:
        bytes: of one uploaded file.
        pixels: of one uploaded image.
        side: pixels of its longer side.
        tile: pixels of a tile's side that a request may ask for.
        files: images in one request to `/v1/enhance/batch`.
        running: images that are worked on at the same time.
        waiting: images that are under way at the same time, uploads and queue included; more are refused with 503.
        per_client: of these, images of one address; more are refused with 429.
        idle_seconds: without a byte from or to a client before its request is given up.
        slowest: bytes a second that an upload must reach, measured once `idle_seconds` are over.
        keep_seconds: that a result of the web page is kept after it was last asked for.
        kept_bytes: of all files of the server together, uploads and previews too; the oldest results go first.
        kept_jobs: jobs that are known at the same time; the oldest that are done go first.
    """

    bytes: int = 256 * 2**20
    pixels: int = 100_000_000
    side: int = 65_535
    tile: int = 1024
    files: int = 64
    running: int = field(default_factory=images_at_once)
    waiting: int = 64
    per_client: int = 16
    idle_seconds: float = 30.0
    slowest: int = 2**10
    keep_seconds: float = 900.0
    kept_bytes: int = 4 * 2**30
    kept_jobs: int = 512

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ArgumentError(f"limit {name} is {value}; it must be more than 0")

    def check_bytes(self, count: int) -> None:
        """Refuse an upload of `count` bytes that is too large."""
        if count > self.bytes:
            raise HttpError(
                413, "too_large", f"the file is larger than {memory.format_size(self.bytes)}; send a smaller one"
            )

    def check_header(self, info: ImageInfo, name: str) -> None:
        """Refuse an image by its header, before a pixel of it is decoded."""
        size = f"{name}: {info.width} x {info.height} pixels"
        if max(info.width, info.height) > self.side:
            raise HttpError(413, "too_large", f"{size}: a side has at most {self.side} pixels here; cut it into parts")
        if info.pixels > self.pixels:
            bound = f"{self.pixels / 1e6:g} megapixels"
            raise HttpError(413, "too_large", f"{size}: more than the {bound} of this server; cut it into parts")


class Slot:
    """The place of one image under way; it can be given back once, and is when nobody holds it any more."""

    def __init__(self, places: dict[object, str], client: str) -> None:
        key = object()
        places[key] = client
        self._release = weakref.finalize(self, places.pop, key, None)
        self._release.atexit = False

    def release(self) -> None:
        """Give the place back; harmless when that was done, from any thread."""
        self._release()


class Admission:
    """Counts images under way, and refuses those beyond the limits at once; safe to use from any thread.

    Each image under way is an entry, and to leave is to remove it: whatever is removed twice is removed once.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._places: dict[object, str] = {}
        self.draining = False
        self.entered = 0  # places taken so far

    @property
    def active(self) -> int:
        """Images under way."""
        return len(self._places)

    def enter(self, client: str) -> Slot:
        """Take a place for an image of a client, to be held until the image is done.

        Raises:
            HttpError: 503 where the server is full or stops, 429 where this client has enough under way.
        """
        with self._lock:
            if self.draining:
                raise HttpError(503, "stopping", "this server is stopping; try again later", retry_after=10)
            if list(self._places.values()).count(client) >= self._limits.per_client:
                most = self._limits.per_client
                message = f"{most} images of one client may be under way at a time; wait for one to finish"
                raise HttpError(429, "too_many", message, retry_after=1)
            if len(self._places) >= self._limits.waiting:
                raise HttpError(503, "busy", "this server has as much to do as it can take; try again", retry_after=2)
            self.entered += 1
            return Slot(self._places, client)
