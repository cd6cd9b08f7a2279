"""Images to the rows of pixels that rows of tiles read."""

import logging
import time
from contextlib import closing
from dataclasses import replace

import numpy as np

from sr_tile.errors import ArgumentError, ImageReadError
from sr_tile.images import ImageInfo
from sr_tile.images.edges import ContinuedSource, Edges
from sr_tile.images.rows import Source, room_of, whole_bytes_of
from sr_tile.pipeline.image_state import ImagesInFlight, ImageState, RowBlock, StageContext
from sr_tile.pipeline.plan_image import is_only_reduced, result_of, tile_grid_for
from sr_tile.pipeline.queues import BoundedQueue, Cancelled
from sr_tile.pipeline.thread_pool import ThreadPool
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import strip_bytes
from sr_tile.tiling.blending import TileBlender, quantise, to_unit
from sr_tile.tiling.channels import parts_of
from sr_tile.tiling.grid import round_up
from sr_tile.tiling.transparency import fill_hidden

log = logging.getLogger("sr_tile")

READ_BYTES = 2**22  # of rows at a time, beside the strip that they go into
ADMIT_SECONDS = 0.01  # between looks at whether the headers of the images before were read


class DecodeStage:
    """The stage of the pipeline that reads images.

    Args:
        context: of the attempt.
        images: to read.
        in_flight: those under way, of which earlier ones are admitted first.
        whole_images: memory for those that are decoded or encoded as a whole.
        pool: helps to blend.
    """

    def __init__(
        self,
        context: StageContext,
        images: BoundedQueue[ImageState],
        in_flight: ImagesInFlight,
        whole_images: WholeImages,
        pool: ThreadPool,
    ) -> None:
        self._context, self._clock, self._pool = context, context.clocks["decode"], pool
        self._images, self._in_flight, self._whole_images = images, in_flight, whole_images

    def work(self) -> None:
        """Read images until there are no more; called by as many threads as read at a time."""
        for image in self._images:
            try:
                with image.guarded():
                    self._read(image)
            finally:
                image.is_admitted = True
                self._whole_images.release(image.token, keep=0 if image.error else image.writing_bytes)

    def _read(self, image: ImageState) -> None:
        image.begun = time.monotonic()
        with self._clock.working(taken=1):
            source = image.job.open_source()
        with closing(source):
            own = source.info
            source = self._continued(image, source)
            self._prepare(image, source.info, own)
            self._admit(image, whole_bytes_of(source), whole_bytes_of(image.sink))
            (self._pass_rows if image.is_only_reduced else self._read_row_blocks)(image, source)
        image.row_blocks.close()
        if not len(image.grid):  # its sink has all of it
            image.rows.close()

    def _continued(self, image: ImageState, source: Source) -> Source:
        """The source with a margin that shows the network what lies beyond the borders, where that was said.

        It is as wide as what the network sees beyond a pixel, in whole cells of its grid.
        """
        plan, edges = self._context.plan, self._context.edges
        scale = self._context.spec.scale or 1
        image.is_only_reduced = is_only_reduced(source.info, scale, self._context.size)
        if edges == Edges() or image.is_only_reduced:
            return source
        if image.job.strip:
            raise ArgumentError(f"{image.job.name}: edges go without a job's strips; leave one of them out")
        least = 2 if self._context.splits_alpha(source.info) and scale > 1 else 1  # as bicubic interpolation sees
        margin = round_up(max(plan.halo, least), plan.multiple)
        image.margins = edges.margins(margin)
        return ContinuedSource(source, image.job.open_source, edges, margin)

    def _admit(self, image: ImageState, reading: int, writing: int) -> None:
        """Wait until there is room for an image that is decoded or encoded as a whole, with its rows, behind others."""
        if reading + writing:
            image.writing_bytes = writing + strip_bytes(image.grid, image.info.channels, self._context.spec.scale or 1)
        size = reading + image.writing_bytes

        def is_wanted() -> bool:
            return not (self._images.cancelled or image.error)

        def is_next() -> bool:
            return all(other.is_admitted for other in self._in_flight if other.index < image.index)

        while size and not is_next():
            if not is_wanted():
                raise Cancelled
            time.sleep(ADMIT_SECONDS)
        if not self._whole_images.reserve(image.token, image.job.name, size, is_wanted, image.writing_bytes):
            raise Cancelled
        image.is_admitted = True

    def _prepare(self, image: ImageState, info: ImageInfo, own: ImageInfo) -> None:
        """Lay out the tiles and open the output, so that what cannot work fails before it costs anything."""
        spec, scale = self._context.spec, self._context.spec.scale or 1
        grid = tile_grid_for(self._context.plan, info, scale, self._context.alpha, image.job.name)
        image.info, image.grid = info, grid
        result = result_of(own, scale, self._context.size, image.job.name)
        if image.job.strip and not image.is_only_reduced:
            image.grid = replace(image.grid, strip=image.job.strip(image.grid))
            above = image.grid.y.inner(image.grid.rows.start)[0] if len(image.grid) else info.height
            self._context.on_progress(image.job, above * info.width)
        if image.job.on_grid:
            image.job.on_grid(image.grid)
        image.parts = parts_of(info.channels, spec.channels, self._context.alpha)
        image.sink = image.job.open_sink(result)
        parts = len(image.parts) + self._context.splits_alpha(info)
        # Strips and margins have rows that the sink does not get.
        room = None if image.job.strip or image.margins != (0, 0) else room_of(image.sink)
        image.accumulator = TileBlender(
            image.grid, scale, info.channels, image.sink.dtype, parts, self._pool.for_each, room
        )
        tiles = len(image.grid.y.starts) * len(image.grid.x.starts)
        if tiles > 1 and spec.is_global:
            log.warning(
                "%s: %s looks at all that it is given, so each of %d tiles gets its own answer; where it pools, "
                "--exact-pooling does so over the whole picture",
                *(image.job.name, spec.name, tiles),
            )

    def _pass_rows(self, image: ImageState, source: Source) -> None:
        """Send an image past the network, to the sink that reduces it."""
        assert image.sink is not None  # opened before the first row
        log.warning("%s: the size asked for is below the picture's: reduced, without the network", image.job.name)
        image.row_blocks.close()
        for row in image.grid.rows:
            pieces = [image.grid.inner(row, column) for column in range(len(image.grid.x.starts))]
            with self._clock.working(made=1):
                rows_hwc = _room(image, pieces[0].height)
                _read_into(image, source, rows_hwc, pieces[0].y)
                if rows_hwc.dtype != image.sink.dtype:
                    rows_hwc = quantise(to_unit(rows_hwc), image.sink.dtype)
            image.rows.put(rows_hwc)
            for piece in pieces:
                self._context.on_progress(image.job, image.count(piece))
        image.rows.close()

    def _read_row_blocks(self, image: ImageState, source: Source) -> None:
        """Read the image, or its strip, once, top to bottom; neighbouring rows of tiles share rows of pixels."""
        axis = image.grid.y
        pixels: np.ndarray | None = None
        for row in image.grid.rows:
            start = axis.starts[row]
            with self._clock.working(made=1):
                end = min(start + axis.tile, axis.length)
                kept = _room(image, 0) if pixels is None else pixels[start - axis.starts[row - 1] :]
                pixels = _room(image, end - start)
                pixels[: len(kept)] = kept
                _read_into(image, source, pixels[len(kept) :], start + len(kept))
            image.row_blocks.put(RowBlock(row, pixels, fill_hidden(pixels)))


def _room(image: ImageState, count: int) -> np.ndarray:
    return np.empty((count, image.info.width, image.info.channels), image.info.dtype)


def _read_into(image: ImageState, source: Source, rows_hwc: np.ndarray, row: int) -> None:
    """Fill rows, of which the first is `row` of the image.

    Raises:
        ImageReadError: there are fewer.
    """
    step = max(1, READ_BYTES // rows_hwc[:1].nbytes) if len(rows_hwc) else 1
    for first in range(0, len(rows_hwc), step):
        part_hwc = rows_hwc[first : first + step]
        read_hwc = source.read_rows(len(part_hwc))
        if len(read_hwc) != len(part_hwc):
            end = row + first + len(read_hwc)
            raise ImageReadError(f"{image.job.name}: ends after {end} rows of {image.info.height}")
        part_hwc[:] = read_hwc
