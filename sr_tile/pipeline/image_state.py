"""An image under way: what its stages hand to each other, and whose a tile is."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sr_tile.errors import DEFECTS, SrTileError, unexpected_of
from sr_tile.images import ImageInfo, TargetSize
from sr_tile.images.edges import Edges
from sr_tile.images.rows import Sink
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.clock import StageClock
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.queues import BoundedQueue, Cancelled
from sr_tile.planner import Plan
from sr_tile.tiling.blending import TileBlender
from sr_tile.tiling.channels import Alpha, Part
from sr_tile.tiling.grid import Region, TileGrid


class RowBlock(NamedTuple):
    """The rows of the image that one row of tiles reads; filled where colours that are not seen are replaced."""

    row: int
    pixels_hwc: np.ndarray
    filled_hwc: np.ndarray


class TileKey(NamedTuple):
    """Whose a row of a batch is; the tile's alpha travels with its first part, what is hidden under it with all."""

    image: "ImageState"
    row: int
    column: int
    part: Part
    alpha_chw: np.ndarray | None
    hidden_chw: np.ndarray | None

    @property
    def is_failed(self) -> bool:
        """See `TileOwner.is_failed`."""
        return self.image.error is not None

    @property
    def support(self) -> Region:
        """See `TileOwner.support`."""
        return self.image.grid.support(self.row, self.column)

    def fail(self, error: SrTileError) -> None:
        """See `TileOwner.fail`."""
        self.image.fail(error)

    def __str__(self) -> str:
        y, x = self.image.grid.y.starts[self.row], self.image.grid.x.starts[self.column]
        return f"{self.image.job.name}: tile at y = {y}, x = {x}"


@dataclass(eq=False)
class ImageState:
    """A job under way. `error`, once set, stays; both queues are cancelled then."""

    job: ImageJob
    index: int
    run: object  # in which it has this index
    row_blocks: BoundedQueue[RowBlock] = field(default_factory=lambda: BoundedQueue(1))
    rows: BoundedQueue[np.ndarray] = field(default_factory=lambda: BoundedQueue(4))
    sink: Sink | None = None
    error: SrTileError | None = None
    pixels_done: int = 0
    begun: float = field(default_factory=time.monotonic)  # when reading began
    is_only_reduced: bool = False  # its rows go past the network
    is_exact: bool = False  # every tile in float32; settled before the first
    goes_as_pixels: bool = False  # every tile as the file holds it, and rounded so; settled before the first
    rows_seen: int = 0  # of the result, by the encoder
    margins: tuple[int, int] = (0, 0)  # (y, x) of `info` on each side, which the result does not have
    writing_bytes: int = 0  # of its rows, and of encoding it as a whole; 0 where it streams
    is_admitted: bool = False  # it has the memory that decoding and encoding take as a whole
    # Set by the decoder before the first row.
    info: ImageInfo = field(init=False)
    grid: TileGrid = field(init=False)
    parts: tuple[Part, ...] = ()
    accumulator: TileBlender = field(init=False)

    @property
    def token(self) -> tuple[object, int]:
        """Under which it holds memory, see `WholeImages`."""
        return self.run, self.index

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What goes wrong inside fails this image alone; that its queues were cancelled is no news once it has failed."""
        try:
            yield
        except SrTileError as error:
            self.fail(error)
        except Cancelled:
            if not self.error:
                raise
        except (OSError, MemoryError, *DEFECTS) as error:
            self.fail(unexpected_of(self.job.name, error))

    def count(self, piece: Region) -> int:
        """Add a finished piece to `pixels_done`, and say how many of its pixels are the picture's own."""
        my, mx = self.margins
        height = min(piece.y + piece.height, self.info.height - my) - max(piece.y, my)
        width = min(piece.x + piece.width, self.info.width - mx) - max(piece.x, mx)
        pixels = max(0, height) * max(0, width)
        self.pixels_done += pixels
        return pixels

    def fail(self, error: SrTileError) -> None:
        """Give the image up; the first error stays."""
        # Without its traceback, whose frames know this image: no circle may keep rows until the collector comes.
        self.error = self.error or error.with_traceback(None)
        self.row_blocks.cancel()
        self.rows.cancel()


class ImagesInFlight:
    """Images that were begun and are not finished, in the order in which they came."""

    def __init__(self) -> None:
        self._images: list[ImageState] = []
        self._lock = threading.Lock()

    def add(self, image: ImageState) -> None:
        """An image was begun."""
        with self._lock:
            self._images.append(image)

    def remove(self, image: ImageState) -> None:
        """It is finished, or failed."""
        with self._lock:
            self._images.remove(image)

    def __iter__(self) -> Iterator[ImageState]:
        with self._lock:
            return iter(list(self._images))


@dataclass(frozen=True)
class StageContext:
    """What the stages of one attempt go by.

    Attributes:
        spec: of the model.
        plan: tiles and batch.
        alpha: how an alpha channel is enlarged, see `channels`.
        size: of the results.
        edges: how pictures go on beyond their borders.
        clocks: of the stages, by name.
        on_progress: called with (job, input pixels that were just finished).
    """

    spec: ModelSpec
    plan: Plan
    alpha: Alpha
    size: TargetSize
    edges: Edges
    clocks: Mapping[str, StageClock]
    on_progress: Callable[[ImageJob, int], None]

    def splits_alpha(self, info: ImageInfo) -> bool:
        """Whether alpha goes another way than the colours."""
        return info.has_alpha and self.alpha == "bicubic"
