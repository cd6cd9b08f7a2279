"""Batches through engines: several of them side by side, smaller batches where memory runs out, overflow done again.

Every engine is fed from one queue by as many threads as it takes calls at a time. Which of them ran a tile leaves no
trace: outputs leave in the order of the batches.
"""

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from sr_tile.engines.base import ExactEngine
from sr_tile.engines.device_runner import DeviceSlot
from sr_tile.errors import DeviceError, ModelError, ModelOutputError, OutOfMemoryError, SrTileError
from sr_tile.pipeline.clock import StageClock
from sr_tile.pipeline.queues import BoundedQueue, Cancelled, OrderedQueue
from sr_tile.pipeline.tile_batches import Batch

log = logging.getLogger("sr_tile")


class TileTooLargeError(Exception):
    """Not even one tile fits on the device; as text it names the device."""


class TileOwner(Protocol):
    """Whose a row of a batch is, as far as engines need to know; as text it says which tile of which image."""

    @property
    def is_failed(self) -> bool:
        """True where its image failed already."""
        ...

    def fail(self, error: SrTileError) -> None:
        """Give its image up."""
        ...


Key = TypeVar("Key", bound=TileOwner)


class Numbered(NamedTuple, Generic[Key]):
    """A batch and its place in the order."""

    number: int
    batch: Batch[Key]


class Piece(NamedTuple, Generic[Key]):
    """Rows that were run in one call; those of a batch that was too large come in several."""

    keys: tuple[Key, ...]
    output_nchw: np.ndarray


class Inference(Generic[Key]):
    """The stage of the pipeline that runs batches; `work` is its threads' job.

    Args:
        slots: engines of one model.
        batch: rows a call at most; it becomes smaller when a device runs out of memory.
        clock: of the stage.
        batches: where batches come from, numbered from 0 in their order.
        outputs: where their outputs go; closed behind the last one.
    """

    def __init__(
        self,
        slots: Sequence[DeviceSlot],
        batch: int,
        clock: StageClock,
        batches: BoundedQueue[Numbered[Key]],
        outputs: OrderedQueue[list[Piece[Key]]],
    ) -> None:
        self.batch, self.redone = batch, 0
        self._slots, self._clock, self._batches, self._outputs = slots, clock, batches, outputs
        self._preferred = [slot for slot in slots for _ in range(slot.threads)]
        self._lock = threading.Lock()
        self._working = len(self._preferred)

    def work(self) -> None:
        """Run batches until there are no more; called by as many threads as all slots together have.

        Raises:
            TileTooLargeError: a device has no room for a single tile.
            DeviceError: no device is left.
        """
        with self._lock:
            preferred = self._preferred.pop()
        for number, batch in self._batches:
            self._outputs.put(number, list(self._pieces(preferred, batch)))
        with self._lock:
            self._working -= 1
            last = self._working == 0
        if last:
            self._outputs.close()

    def _pieces(self, preferred: DeviceSlot, batch: Batch[Key]) -> Iterator[Piece[Key]]:
        first, exclusive = 0, False
        while first < len(batch.keys):
            if self._outputs.cancelled:
                raise Cancelled
            slot = self._alive(preferred)
            keys = batch.keys[first : first + self.batch]
            pixels = batch.pixels_nchw[first : first + len(keys)]
            try:
                with slot.use(exclusive=exclusive) as engine, self._clock.working(taken=len(keys), made=len(keys)):
                    output = engine.run(pixels)
                self._check(slot, keys, pixels, output)
            except OutOfMemoryError as error:
                # One row may fail for what the arena or another thread's call still holds: it gets a second try, alone.
                if exclusive:
                    raise TileTooLargeError(slot.engine.device) from error
                exclusive = len(keys) == 1
                self._shrink(slot, len(keys))
            except DeviceError as error:
                self._lose(slot, error)
            except ModelOutputError as error:
                for key in keys:
                    key.fail(error)
                first, exclusive = first + len(keys), False
            else:
                yield Piece(keys, output)
                first, exclusive = first + len(keys), False

    def _alive(self, preferred: DeviceSlot) -> DeviceSlot:
        """The thread's own slot, or another that takes its place."""
        if not preferred.lost:
            return preferred
        for slot in self._slots:
            if not slot.lost:
                return slot
        raise preferred.lost

    def _lose(self, slot: DeviceSlot, error: DeviceError) -> None:
        """Do without an engine; its threads help at the others."""
        with self._lock:
            known, slot.lost = slot.lost, error
            left = [other.engine.device for other in self._slots if not other.lost]
        if left and not known:
            log.warning("%s; going on with %s", error, ", ".join(left))

    def _shrink(self, slot: DeviceSlot, failed: int) -> None:
        """Smaller batches for all engines after one of `failed` rows, and the memory of the arena given back."""
        with self._lock:
            self.batch = min(self.batch, max(1, failed // 2))
            slot.max_concurrency = 1 if failed == 1 else slot.max_concurrency
        log.warning("%s ran out of memory: going on with batches of %d", slot.engine.device, self.batch)
        try:
            with slot.use(exclusive=True) as engine:
                engine.rebuild()
        except DeviceError as error:
            self._lose(slot, error)

    def _check(self, slot: DeviceSlot, keys: tuple[Key, ...], pixels_nchw: np.ndarray, output_nchw: np.ndarray) -> None:
        """Redo tiles that hold a NaN or an infinity where the engine has a wider arithmetic; fail the images of others.

        Here and not in blending, because only these threads may call an engine.
        """
        for row, key in enumerate(keys):
            if _finite(output_nchw[row]) or key.is_failed:
                continue
            exact = self._exact(slot, pixels_nchw[row : row + 1])
            if exact is not None and _finite(exact):
                output_nchw[row] = exact[0]
                with self._lock:
                    self.redone += 1
            else:
                key.fail(
                    ModelOutputError(
                        f"{key}: model {slot.engine.spec.name} returned values that are no numbers; use another "
                        "precision or tile size"
                    )
                )

    def _exact(self, slot: DeviceSlot, pixels_nchw: np.ndarray) -> np.ndarray | None:
        """One tile in float32 throughout, None where the engine cannot do that."""
        if not isinstance(slot.engine, ExactEngine):
            return None
        try:
            with slot.use(exclusive=True), self._clock.working():
                return slot.engine.run_exact(pixels_nchw)
        except (ModelError, DeviceError):
            return None  # what went wrong first is what counts


def _finite(pixels: np.ndarray) -> bool:
    """No NaN and no infinity: one pass and no temporary, for either anywhere makes the sum one."""
    return math.isfinite(float(pixels.sum(dtype=np.float64)))
