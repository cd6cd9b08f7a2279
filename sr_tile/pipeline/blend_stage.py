"""Outputs of the network to finished rows."""

from collections.abc import Iterator

import numpy as np

from sr_tile.engines.integer_ends import as_floats
from sr_tile.pipeline.image_state import StageContext, TileKey
from sr_tile.pipeline.inference import Tiles
from sr_tile.pipeline.queues import OrderedQueue
from sr_tile.tiling.blending import from_range
from sr_tile.tiling.channels import enlarge_bicubic
from sr_tile.tiling.transparency import MODEL_REACH, restore_hidden


class BlendStage:
    """The stage of the pipeline that joins tiles.

    Args:
        context: of the attempt.
        outputs: of the network, in the order of the batches.
    """

    def __init__(self, context: StageContext, outputs: OrderedQueue[list[Tiles[TileKey]]]) -> None:
        self._context, self._clock, self._outputs = context, context.clocks["blend"], outputs

    def work(self) -> None:
        """Blend tiles in their order until there are no more."""
        for pieces in self._outputs:
            for key, tile in (pair for keys, output in pieces for pair in zip(keys, output, strict=True)):
                if not key.is_failed:
                    with key.image.guarded():
                        self._blend_tile(key, tile)

    def _next(self, blocks: Iterator[np.ndarray]) -> np.ndarray | None:
        with self._clock.working():
            rows = next(blocks, None)
        self._clock.count(made=rows is not None)
        return rows

    def _blend_tile(self, key: TileKey, output_chw: np.ndarray) -> None:
        """Add one tile to its image, and pass on the rows that it finished."""
        image, spec = key.image, self._context.spec
        with self._clock.working(taken=1):
            if output_chw.dtype == np.float32:
                output_chw = from_range(output_chw, spec.value_range)
            colours = key.part.scatter(output_chw)
            if key.hidden_chw is not None and key.part.channels.stop <= image.info.colours:
                alpha_chw = key.hidden_chw[image.info.colours :]
                reach = 0 if self._context.splits_alpha(image.info) else MODEL_REACH
                hidden_chw = key.hidden_chw[key.part.channels]
                colours = restore_hidden(as_floats(colours, (0.0, 1.0)), hidden_chw, alpha_chw, spec.scale or 1, reach)
            pieces = [(colours, key.part.channels)]
            if key.alpha_chw is not None:
                last = image.info.channels - 1
                pieces.append((enlarge_bicubic(key.alpha_chw, spec.scale or 1), slice(last, last + 1)))
        for piece, channels in pieces:
            with self._clock.working():
                blocks = image.accumulator.add(key.row, key.column, piece, channels)
            while (rows := self._next(blocks)) is not None:
                image.rows.put(rows)
        if key.part is image.parts[-1]:
            inner = image.grid.inner(key.row, key.column)
            self._context.on_progress(image.job, image.count(inner))
        if image.accumulator.done:
            image.rows.close()
