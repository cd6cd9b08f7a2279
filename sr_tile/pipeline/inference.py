"""Batches through engines, several of them side by side; `device_runner` copes with what goes wrong there.

Every engine is fed from one queue by as many threads as it takes calls at a time. Which of them ran a tile leaves no
trace: outputs leave in the order of the batches.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from sr_tile.engines.device_runner import DeviceRunner, DeviceSlot
from sr_tile.errors import ModelOutputError, SrTileError
from sr_tile.pipeline.clock import StageClock
from sr_tile.pipeline.queues import BoundedQueue, Cancelled, OrderedQueue
from sr_tile.pipeline.tile_batches import Batch
from sr_tile.tiling.grid import Region


class TileOwner(Protocol):
    """Whose a row of a batch is, as far as engines need to know; as text it says which tile of which image."""

    @property
    def is_failed(self) -> bool:
        """True where its image failed already."""
        ...

    @property
    def support(self) -> Region:
        """What its image needs of the output, in pixels of the input."""
        ...

    def fail(self, error: SrTileError) -> None:
        """Give its image up."""
        ...


Key = TypeVar("Key", bound=TileOwner)


class Numbered(NamedTuple, Generic[Key]):
    """A batch and its place in the order."""

    number: int
    batch: Batch[Key]


class Tiles(NamedTuple, Generic[Key]):
    """Rows that were run in one call; those of a batch that was too large come in several."""

    keys: tuple[Key, ...]
    output_nchw: np.ndarray


class Inference(Generic[Key]):
    """The stage of the pipeline that runs batches; `work` is its threads' job.

    Args:
        runner: of engines of one model.
        clock: of the stage.
        batches: where batches come from, numbered from 0 in their order.
        outputs: where their outputs go; closed behind the last one.
    """

    def __init__(
        self,
        runner: DeviceRunner,
        clock: StageClock,
        batches: BoundedQueue[Numbered[Key]],
        outputs: OrderedQueue[list[Tiles[Key]]],
    ) -> None:
        self.runner = runner
        self._clock, self._batches, self._outputs = clock, batches, outputs
        self._idle = runner.threads
        self._lock = threading.Lock()
        self._working = len(self._idle)

    def work(self) -> None:
        """Run batches until there are no more; called by as many threads as the runner wants.

        Raises:
            TileTooLargeError: a device has no room for a single tile.
            DeviceError: no device is left.
        """
        with self._lock:
            own = self._idle.pop()
        for number, batch in self._batches:
            self._outputs.put(number, list(self._run(own, batch)))
        with self._lock:
            self._working -= 1
            last = self._working == 0
        if last:
            self._outputs.close()

    def _run(self, own: DeviceSlot, batch: Batch[Key]) -> Iterator[Tiles[Key]]:
        """The outputs of a batch; the images of tiles that have none are failed."""
        keys = batch.keys
        pieces = self.runner.run(
            own,
            batch.pixels_nchw,
            exact=batch.exact,
            watch=self._watch,
            is_wanted=lambda row: not keys[row].is_failed,
            regions=[key.support for key in keys],
        )
        for piece in pieces:
            if piece.error:
                for row in piece.rows:
                    keys[row].fail(piece.error)
                continue
            for row in piece.not_finite:
                keys[row].fail(
                    ModelOutputError(
                        f"{keys[row]}: model {own.engine.spec.name} returned values that are no numbers; use another "
                        "precision or tile size"
                    )
                )
            yield Tiles(keys[piece.rows.start : piece.rows.stop], piece.output_nchw)

    def _watch(self, rows: int) -> AbstractContextManager[None]:
        """Time a call, unless nobody wants it any more."""
        if self._outputs.cancelled:
            raise Cancelled
        return self._clock.working(taken=rows, made=rows)
