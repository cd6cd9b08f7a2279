"""Finished rows to files, or whatever a job's sink is."""

from collections.abc import Callable

import numpy as np

from sr_tile.pipeline.image_state import ImageState, StageContext
from sr_tile.pipeline.queues import BoundedQueue


class EncodeStage:
    """The stage of the pipeline that writes images.

    Args:
        context: of the attempt.
        images: to write.
        on_end: is told of each image that is finished, or failed.
    """

    def __init__(
        self, context: StageContext, images: BoundedQueue[ImageState], on_end: Callable[[ImageState], None]
    ) -> None:
        self._context = context
        self._clock, self._images, self._on_end = context.clocks["encode"], images, on_end

    def work(self) -> None:
        """Write images until there are no more; called by as many threads as write at a time."""
        for image in self._images:
            with image.guarded():
                for rows in image.rows:
                    with self._clock.working(taken=1):
                        self._write(image, rows)
                if image.sink and not image.error:
                    with self._clock.working(made=1):
                        image.sink.close()
            self._on_end(image)

    def _write(self, image: ImageState, rows_hwc: np.ndarray) -> None:
        """Pass rows on, without the margins."""
        assert image.sink is not None  # opened before the first row
        top, left = (margin * (self._context.spec.scale or 1) for margin in image.margins)
        height, width = image.info.height * (self._context.spec.scale or 1), rows_hwc.shape[1]
        start = image.rows_seen
        image.rows_seen += len(rows_hwc)
        if image.margins != (0, 0):
            own = slice(max(0, top - start), max(0, height - top - start))
            rows_hwc = np.ascontiguousarray(rows_hwc[own, left : width - left])
        if len(rows_hwc):
            image.sink.write_rows(rows_hwc)
