"""Finished rows to files, or whatever a job's sink is."""

from collections.abc import Callable

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
        self._clock, self._images, self._on_end = context.clocks["encode"], images, on_end

    def work(self) -> None:
        """Write images until there are no more; called by as many threads as write at a time."""
        for image in self._images:
            with image.guarded():
                for rows in image.rows:
                    assert image.sink is not None  # opened before the first row
                    with self._clock.working(taken=1):
                        image.sink.write_rows(rows)
                if image.sink and not image.error:
                    with self._clock.working(made=1):
                        image.sink.close()
            self._on_end(image)
