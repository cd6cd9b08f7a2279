"""Calls of engines that may run out of memory, lose their device, or overflow; for the pipeline and the server alike.

Out of memory: the batch is halved and the memory of the arena given back; one row gets a second try, alone on the device.
A device that is lost is done without until it comes back. Tiles that overflow are run again in float32 where that can be
done.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

from sr_tile.engines.base import Engine
from sr_tile.errors import ArgumentError, DeviceError, ModelError, ModelOutputError, OutOfMemoryError
from sr_tile.tiling.grid import Region
from sr_tile.types import Array, Pixels

REOPEN_SECONDS = (5.0, 120.0)  # before a lost device is opened again: the first time, and at most

log = logging.getLogger("sr_tile")


class TileTooLargeError(OutOfMemoryError):
    """Not even one tile fits on the device."""


class DeviceSlot:
    """An engine and the threads that call it.

    Attributes:
        threads: call it.
        max_concurrency: calls that it takes at a time; all threads' at first, one where memory is too tight for more.
        lost: why it is not called now; it is opened again from time to time, for memory and devices come back.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.threads = self.max_concurrency = engine.max_concurrency
        self.lost: DeviceError | None = None
        self._reopen_wait = self._reopen_at = 0.0
        self._reopening = threading.Lock()
        self._calling = self._wanting_exclusive = 0
        self._changed = threading.Condition()

    @contextmanager
    def use(self, *, exclusive: bool = False) -> Iterator[Engine]:
        """Call the engine inside: with at most `max_concurrency` threads, or alone."""
        with self._changed:
            if exclusive:
                self._wanting_exclusive += 1
                self._changed.wait_for(lambda: self._calling == 0)
            else:
                self._changed.wait_for(lambda: not self._wanting_exclusive and self._calling < self.max_concurrency)
            self._calling += 1
        try:
            yield self.engine
        finally:
            with self._changed:
                self._calling -= 1
                self._wanting_exclusive -= exclusive
                self._changed.notify_all()

    def lose(self, error: DeviceError) -> None:
        """Call it no more until it could be opened again, which is tried ever more seldom."""
        self.lost = error.with_traceback(None)  # whose frames keep the batch
        self._reopen_wait = min(REOPEN_SECONDS[1], max(REOPEN_SECONDS[0], 2 * self._reopen_wait))
        self._reopen_at = time.monotonic() + self._reopen_wait

    def is_alive(self) -> bool:
        """True where it is not lost, or could be opened again just now."""
        if self.lost is None:
            return True
        if time.monotonic() < self._reopen_at or not self._reopening.acquire(blocking=False):
            return False
        try:
            with self.use(exclusive=True) as engine:
                engine.rebuild()
        except (DeviceError, OutOfMemoryError) as error:
            self.lose(DeviceError(str(error)))
            return False
        else:
            self.lost = None
            log.warning("%s is there again", self.engine.device)
            return True
        finally:
            self._reopening.release()


def device_slots(engines: Engine | Sequence[Engine]) -> list[DeviceSlot]:
    """One slot an engine.

    Raises:
        ArgumentError: there is none, or they run different models.
    """
    engines = list(engines) if isinstance(engines, Sequence) else [engines]
    if not engines:
        raise ArgumentError("engines is empty; give one or more")
    for engine in engines[1:]:
        if engine.spec != engines[0].spec:
            raise ArgumentError(
                f"the engines on {engines[0].device} and {engine.device} run different models, {engines[0].spec.name} "
                f"and {engine.spec.name}; give each the same file"
            )
    return [DeviceSlot(engine) for engine in engines]


class Piece(NamedTuple):
    """Rows of a batch that were run in one call; those of a batch that was too large come in several.

    Attributes:
        rows: which of the batch.
        output_nchw: what the engine made of them; without meaning where there is an `error`.
        not_finite: rows of the batch whose output holds a NaN or an infinity, and did so in float32 as well.
        error: why the model failed on these rows.
    """

    rows: range
    output_nchw: np.ndarray
    not_finite: tuple[int, ...] = ()
    error: ModelOutputError | None = None


class _Request(NamedTuple):
    """What `DeviceRunner.run` is given."""

    batch_nchw: np.ndarray
    exact: bool
    watch: Callable[[int], AbstractContextManager[object]]
    is_wanted: Callable[[int], bool]
    regions: Sequence[Region] | None


class DeviceRunner:
    """Runs batches on engines of one model, as far as memory and devices allow; any number of threads may call `run`.

    Args:
        slots: the engines. What is lost stays lost for others that use the same slots.
        limit: rows a call at most; it becomes smaller for a device that runs out of memory.
        in_pixels: the limit counts pixels of the rows instead, for tiles of many shapes.
        recovery: calls without a failure after which a device that ran out of memory is given twice as much again, for
            memory that another process took comes back; None never.

    Attributes:
        redone: rows that overflowed and were run again in float32.
    """

    def __init__(
        self, slots: Sequence[DeviceSlot], limit: int, *, in_pixels: bool = False, recovery: int | None = None
    ) -> None:
        self.redone = 0
        self._slots, self._full, self._in_pixels, self._recovery = slots, limit, in_pixels, recovery
        self._limits = dict.fromkeys(slots, limit)
        self._good = dict.fromkeys(slots, 0)
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """What every device takes a call."""
        with self._lock:
            return min(self._limits.values())

    @property
    def threads(self) -> list[DeviceSlot]:
        """For each thread that should call `run`, the slot that is its own."""
        return [slot for slot in self._slots for _ in range(slot.threads)]

    def run(
        self,
        own: DeviceSlot,
        batch_nchw: Pixels[Array, "n c h w"],
        *,
        exact: bool = False,
        watch: Callable[[int], AbstractContextManager[object]] = nullcontext,
        is_wanted: Callable[[int], bool] = lambda row: True,
        regions: Sequence[Region] | None = None,
    ) -> Iterator[Piece]:
        """Run a batch on a thread's own device, or on another where that is lost.

        Args:
            own: one of `threads`.
            batch_nchw: see `Engine.run`.
            exact: in float32 throughout, where the engine's `run` takes fewer bits.
            watch: given the rows of a call, makes what is entered around it; 0 says that a row is run again. It may raise.
            is_wanted: whether a row that overflowed is worth being run again.
            regions: of each row's result, what is needed, see `Engine.run_cropped`; None for all of it.

        Yields:
            All rows in their order, each once.

        Raises:
            TileTooLargeError: a device has no room for a single row.
            DeviceError: no device is left.
        """
        first, exclusive = 0, False
        request = _Request(batch_nchw, exact, watch, is_wanted, regions)
        weight = math.prod(batch_nchw.shape[2:]) if self._in_pixels else 1
        while first < len(batch_nchw):
            slot = self._alive(own)
            count = max(1, min(len(batch_nchw) - first, self._limits[slot] // weight))
            rows = range(first, first + count)
            try:
                piece = self._call(slot, request, rows, exclusive)
            except OutOfMemoryError as error:
                # One row may fail for what the arena or another thread's call still holds: it gets a second try, alone.
                if exclusive:
                    height, width = batch_nchw.shape[2:]
                    raise TileTooLargeError(
                        f"{slot.engine.device} has no room for a tile of {height} x {width} pixels"
                    ) from error
                exclusive = count == 1
                self._shrink(slot, max(1, count // 2) * weight, single=exclusive)
            except DeviceError as error:
                self._lose(slot, error)
                exclusive = False
            else:
                yield piece
                first, exclusive = first + count, False
                self._recover(slot)

    def _call(self, slot: DeviceSlot, request: _Request, rows: range, exclusive: bool) -> Piece:
        tiles = request.batch_nchw[rows.start : rows.stop]
        try:
            with slot.use(exclusive=exclusive) as engine, request.watch(len(rows)):
                exact = engine.run_exact(tiles) if request.exact else None
                if exact is not None:
                    output = exact
                elif request.regions is None:
                    output = engine.run(tiles)
                else:
                    output = engine.run_cropped(tiles, request.regions[rows.start : rows.stop])
        except ModelOutputError as error:
            # Without its traceback, whose frames keep the batch: no reference cycle waits for the collector.
            return Piece(rows, tiles[:0], error=error.with_traceback(None))
        left = []
        for row in rows:
            place = row - rows.start
            if _finite(output[place]) or not request.is_wanted(row):
                continue
            again = None if request.exact else self._exact(slot, tiles[place : place + 1], request.watch)
            if again is not None and _finite(again):
                output[place] = again[0]
                with self._lock:
                    self.redone += 1
            else:
                left.append(row)
        return Piece(rows, output, tuple(left))

    def _exact(
        self, slot: DeviceSlot, tile_nchw: np.ndarray, watch: Callable[[int], AbstractContextManager[object]]
    ) -> np.ndarray | None:
        """One tile in float32 throughout, None where the engine cannot do that."""
        try:
            with slot.use(exclusive=True) as engine, watch(0):
                return engine.run_exact(tile_nchw)
        except (ModelError, DeviceError):
            return None  # what went wrong first is what counts

    def is_alive(self) -> bool:
        """True where a device is left, or is there again."""
        return any(slot.is_alive() for slot in self._slots)

    def _alive(self, own: DeviceSlot) -> DeviceSlot:
        """The thread's own slot, or another that takes its place."""
        for slot in (own, *self._slots):
            if slot.is_alive():
                return slot
        raise DeviceError("; ".join(dict.fromkeys(str(slot.lost) for slot in self._slots if slot.lost)))

    def _lose(self, slot: DeviceSlot, error: DeviceError) -> None:
        """Do without an engine; its threads help at the others."""
        with self._lock:
            known = slot.lost
            if not known:
                slot.lose(error)
            left = [other.engine.device for other in self._slots if not other.lost]
        if left and not known:
            log.warning("%s; going on with %s", error, ", ".join(left))

    def _shrink(self, slot: DeviceSlot, limit: int, single: bool) -> None:
        """Less a call, and the memory of the arena given back."""
        with self._lock:
            self._limits[slot] = limit = min(self._limits[slot], limit)
            self._good[slot] = 0
            slot.max_concurrency = 1 if single else slot.max_concurrency
        what = "%d pixels a call" if self._in_pixels else "batches of %d"
        log.warning(f"%s ran out of memory: going on with {what}", slot.engine.device, limit)
        try:
            with slot.use(exclusive=True) as engine:
                engine.rebuild()
        except DeviceError as error:
            self._lose(slot, error)

    def _recover(self, slot: DeviceSlot) -> None:
        """Count a call that went well; a service must not stay small for ever."""
        with self._lock:
            self._good[slot] += 1
            if self._recovery is not None and self._limits[slot] < self._full and self._good[slot] >= self._recovery:
                self._limits[slot], self._good[slot] = min(self._full, 2 * self._limits[slot]), 0


def _finite(pixels: np.ndarray) -> bool:
    """No NaN and no infinity, which integers cannot be: one pass and no temporary, for either anywhere makes the sum one.

    Summing in float32 takes a quarter of the time; where that sum overflowed of large numbers, float64 says so.
    """
    if pixels.dtype.kind == "u":
        return True
    with np.errstate(over="ignore"):
        return math.isfinite(float(pixels.sum())) or math.isfinite(float(pixels.sum(dtype=np.float64)))
