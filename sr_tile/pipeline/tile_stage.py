"""Rows of pixels to batches of tiles: as they are for engines that take them so, else in the model's range of values."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sr_tile.engines.device_runner import DeviceSlot
from sr_tile.engines.precision import LEAST_PIXELS, agrees, pieces_of
from sr_tile.pipeline.image_state import ImageState, RowBlock, StageContext, TileKey
from sr_tile.pipeline.inference import Numbered
from sr_tile.pipeline.queues import BoundedQueue, Cancelled
from sr_tile.pipeline.thread_pool import ThreadPool
from sr_tile.pipeline.tile_batches import Batch, BatchBuilder
from sr_tile.planner.tiles import is_local
from sr_tile.tiling.blending import to_range, to_unit
from sr_tile.tiling.channels import Part
from sr_tile.tiling.grid import Region
from sr_tile.tiling.padding import pad
from sr_tile.tiling.transparency import is_visible


class TileStage:
    """The stage of the pipeline that cuts images; tiles of several share batches.

    Args:
        context: of the attempt.
        images: to cut, in their order.
        batches: where tiles go; closed behind the last one.
        slots: the engines; the first shows of images by their first tiles which precision they bear.
        timeout: seconds that an unfinished batch waits for the next image, or its first rows.
        pool: helps to copy pixels.
    """

    def __init__(
        self,
        context: StageContext,
        images: BoundedQueue[ImageState],
        batches: BoundedQueue[Numbered[TileKey]],
        slots: Sequence[DeviceSlot],
        timeout: float,
        pool: ThreadPool,
    ) -> None:
        self._context, self._clock = context, context.clocks["tile"]
        self._images, self._batches, self._slot, self._timeout = images, batches, slots[0], timeout
        self._pool, self._takes_pixels = pool, all(slot.engine.takes_pixels for slot in slots)

    def work(self) -> None:
        """Cut images in their order until there are no more."""
        builder: BatchBuilder[TileKey] = BatchBuilder(self._context.plan.batch, self._pool, self._slot.engine.empty)
        numbers = itertools.count()

        def send(batches: list[Batch[TileKey]]) -> None:
            for batch in batches:
                self._batches.put(Numbered(next(numbers), batch))

        # Where the next image, or its first rows, are long in coming, the tiles at hand do not wait for them: they may be
        # the last of an image that must be written before the next has the memory to be read.
        waiting: Any = {"timeout": self._timeout, "on_wait": lambda: send(builder.flush())}
        for image in self._images.items(**waiting):
            try:
                first = itertools.islice(image.row_blocks.items(**waiting), 1)
                for number, block in enumerate(itertools.chain(first, image.row_blocks)):
                    if number == 0:
                        image.is_exact = self._needs_float32(image, block)
                        image.goes_as_pixels = self._takes_pixels and self._bears_rounding(image)
                    for column in range(len(image.grid.x.starts)):
                        with self._clock.working(taken=column == 0, made=len(image.parts)):
                            rows = list(self._cut(image, block, column))
                            batches = [batch for key, tile in rows for batch in builder.add(key, tile, image.is_exact)]
                        send(batches)
            except Cancelled:
                if not image.error:
                    raise
        send(builder.flush())
        self._batches.close()

    def _needs_float32(self, image: ImageState, block: RowBlock) -> bool:
        """Whether fewer bits will not do: the result holds more than 8, or its own first tiles show the difference.

        It depends on the image alone, so that an image comes out the same alone and in a list.
        """
        if self._slot.engine.bound is None:
            return False
        assert image.sink is not None  # opened before the first row
        # A job that goes on where it was killed does not begin with the first tiles.
        if image.job.strip or image.sink.dtype != np.uint8 or image.info.height * image.info.width < LEAST_PIXELS:
            return True
        pieces = [to_unit(piece) for piece in pieces_of(self._context.spec, block.filled_hwc)]
        with self._slot.use() as engine:
            return not agrees(engine, [self._gather(part, piece) for piece in pieces for part in image.parts])

    def _bears_rounding(self, image: ImageState) -> bool:
        """Whether tiles may come back in the result's own number type: it is that of the file, and they are its values.

        Gray by three channels is a mean, so not. Where tiles are blended they must agree but for rounding: none is blended
        (hard cuts), or the halo reaches as far as the model's does, beyond which far pixels do not matter. Both roundings
        are the same then but for 1 value in 100,000, one step.
        """
        assert image.sink is not None  # opened before the first row
        spec, axes = self._context.spec, (image.grid.y, image.grid.x)
        if image.sink.dtype != image.info.dtype or image.info.dtype.kind != "u" or any(p.repeat for p in image.parts):
            return False
        settled = spec.halo is not None and is_local(spec) and min(axis.halo for axis in axes) >= spec.halo
        return settled or not any(axis.cuts and axis.blend for axis in axes)

    def _cut(self, image: ImageState, block: RowBlock, column: int) -> Iterator[tuple[TileKey, np.ndarray]]:
        """The rows that one tile contributes to a batch."""
        height, width = image.grid.tile
        outer = Region(0, image.grid.x.starts[column], height, width)
        real = block.filled_hwc[outer.slices]
        tile = pad(real, height, width, image.grid.x.multiple, self._context.spec.padding)
        shown = tile.transpose(2, 0, 1) if image.goes_as_pixels else to_unit(tile)
        # What stands behind the end is for the network: of alpha nothing is invented.
        alpha = to_unit(real[..., -1:]) if self._context.splits_alpha(image.info) else None
        original = block.pixels_hwc[outer.slices]
        is_filled = block.filled_hwc is not block.pixels_hwc and not is_visible(original).all()
        hidden = to_unit(original) if is_filled else None
        for number, part in enumerate(image.parts):
            key = TileKey(image, block.row, column, part, alpha if number == 0 else None, hidden)
            yield key, self._gather(part, shown)

    def _gather(self, part: Part, tile_chw: np.ndarray) -> np.ndarray:
        """What the network reads of a tile: pixels as they are, floats from 0 to 1 in its own range of values."""
        pixels = part.gather(tile_chw)
        return pixels if pixels.dtype.kind == "u" else to_range(pixels, self._context.spec.value_range)
