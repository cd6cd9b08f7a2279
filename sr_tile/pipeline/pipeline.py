"""decode -> tile -> infer -> blend -> encode: threads joined by bounded queues, one clock a stage.

Images go through in order, and so do their tiles; several images are decoded and encoded at a time, and their tiles
share batches. Every queue is bounded, so memory follows the width of a strip, not the number or the size of the images.

An image that fails is dropped and reported, and the others go on. A device that runs out of memory gets the same tiles in
smaller batches (see `device_runner`); when one tile is too large, everything under way stops, and the images that are not
finished start again from their first row with smaller tiles, so that no picture is ever made of two sizes.
"""

import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from sr_tile.engines.base import Engine
from sr_tile.engines.device_runner import DeviceRunner, TileTooLargeError, device_slots
from sr_tile.engines.precision import LEAST_PIXELS, agrees, pieces_of
from sr_tile.errors import DEFECTS, ArgumentError, ImageReadError, SrTileError, unexpected_of
from sr_tile.images import ImageInfo
from sr_tile.images.rows import Sink, Source, whole_bytes_of
from sr_tile.pipeline.clock import StageClock
from sr_tile.pipeline.inference import Inference, Numbered, Tiles
from sr_tile.pipeline.job import ImageJob, Outcome, Stats
from sr_tile.pipeline.plan_image import tile_grid_for
from sr_tile.pipeline.queues import BoundedQueue, Cancelled, OrderedQueue, start_thread
from sr_tile.pipeline.tile_batches import Batch, BatchBuilder
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan
from sr_tile.tiling.blending import TileBlender, quantise
from sr_tile.tiling.channels import Alpha, Part, enlarge_bicubic, parts_of
from sr_tile.tiling.grid import Region, TileGrid
from sr_tile.tiling.padding import pad

log = logging.getLogger("sr_tile")

STAGES = ("decode", "tile", "infer", "blend", "encode")
BATCH_TIMEOUT = 0.2  # seconds that an unfinished batch waits for the next image
ADMIT_SECONDS = 0.01  # between looks at whether the headers of the images before were read
BATCH_TIMEOUT_LAST = 0.005  # the same, where none will come


class _RowBlock(NamedTuple):
    """The rows of the image that one row of tiles reads."""

    row: int
    pixels_hwc: np.ndarray


class _Key(NamedTuple):
    """Whose a row of a batch is; the tile's alpha travels with its first part."""

    task: "_ImageState"
    row: int
    column: int
    part: Part
    alpha_chw: np.ndarray | None

    @property
    def is_failed(self) -> bool:
        """See `TileOwner.is_failed`."""
        return self.task.error is not None

    def fail(self, error: SrTileError) -> None:
        """See `TileOwner.fail`."""
        self.task.fail(error)

    def __str__(self) -> str:
        y, x = self.task.grid.y.starts[self.row], self.task.grid.x.starts[self.column]
        return f"{self.task.job.name}: tile at y = {y}, x = {x}"


@dataclass(eq=False)
class _ImageState:
    """A job under way. `error`, once set, stays; both queues are cancelled then."""

    job: ImageJob
    index: int
    row_blocks: BoundedQueue[_RowBlock] = field(default_factory=lambda: BoundedQueue(1))
    rows: BoundedQueue[np.ndarray] = field(default_factory=lambda: BoundedQueue(4))
    sink: Sink | None = None
    error: SrTileError | None = None
    pixels_done: int = 0
    is_exact: bool = False  # every tile in float32; settled before the first
    is_admitted: bool = False  # it has the memory that decoding takes
    # Set by the decoder before the first row.
    info: ImageInfo = field(init=False)
    grid: TileGrid = field(init=False)
    parts: tuple[Part, ...] = ()
    accumulator: TileBlender = field(init=False)

    def fail(self, error: SrTileError) -> None:
        # Without its traceback, whose frames know this task: no circle may keep rows until the collector comes.
        self.error = self.error or error.with_traceback(None)
        self.row_blocks.cancel()
        self.rows.cancel()


class Pipeline:
    """Runs jobs through one engine, or several side by side.

    Args:
        engines: run the tiles; several must be of one model. Each is called by as many threads as its
            `max_concurrency` says.
        plan: tiles and batch; `self.plan` becomes smaller when the device runs out of memory.
        alpha: how an alpha channel is enlarged, see `channels`.
        decoders: images read at the same time.
        encoders: images written at the same time.
        on_progress: called with (job, input pixels that were just finished), from a thread of the pipeline.
        max_in_flight: images between the first row and the last at the same time; None leaves it to the queues.

    Attributes:
        whole_images: memory for those that are decoded as a whole: one of its own, as large as the rows that are read at the
            same time may be, unless it is given one that several pipelines share.
    """

    def __init__(
        self,
        engines: Engine | Sequence[Engine],
        plan: Plan,
        *,
        alpha: Alpha = "bicubic",
        decoders: int = 2,
        encoders: int = 2,
        on_progress: Callable[[ImageJob, int], None] | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        share = plan.strip_budget
        self.whole_images = WholeImages(None if share is None else share * decoders)
        self.max_in_flight = max_in_flight
        self.slots = device_slots(engines)
        self.spec = self.slots[0].engine.spec
        self.plan, self.alpha = plan, alpha
        self.decoders, self.encoders = decoders, encoders
        self.on_progress = on_progress or (lambda job, pixels: None)
        self._lock = threading.Lock()
        self._running = 0
        self.reset_stats()

    def reset_stats(self) -> None:
        """Begin to count anew.

        Raises:
            ArgumentError: a run is under way.
        """
        with self._lock:
            if self._running:
                raise ArgumentError("figures cannot begin anew while a call is under way; wait for it")
            callers = sum(slot.threads for slot in self.slots)
            workers = {"decode": self.decoders, "infer": callers, "encode": self.encoders}
            self.clocks = {name: StageClock(name, workers.get(name, 1)) for name in STAGES}
            self._computed = self._wanted = self._images = 0
            self.redone = self._exact_images = 0
            self._tile = (0, 0)
            self._start = self._seconds = 0.0

    def run(self, jobs: Iterable[ImageJob]) -> Iterator[Outcome]:
        """Do all jobs; outcomes come as they are ready, those of failed jobs too.

        Closing the iterator early stops everything and leaves no half-written output. Several threads may have a run
        each at a time; they share the engines, and no batches.

        Raises:
            OutOfMemoryError: a device has no room for the smallest tile.
            DeviceError: no device is left.
        """
        self._begin()
        pending: Iterator[tuple[int, ImageJob]] = enumerate(jobs)
        try:
            while True:
                attempt = _Attempt(self, pending)
                try:
                    yield from attempt.outcomes()
                    return
                except TileTooLargeError as error:
                    with self._lock:
                        if self.plan.tile == attempt.plan.tile:  # no other run has met it before
                            self.plan = self.plan.smaller()
                    again = attempt.unfinished()
                    log.warning(
                        "%s: starting %d images again with tiles of %d x %d pixels",
                        error,
                        len(again),
                        *self.plan.tile,
                    )
                    pending = itertools.chain(again, pending)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            self._start = self._start if self._running else time.perf_counter()
            self._running += 1

    def _end(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._seconds += time.perf_counter() - self._start
                for clock in self.clocks.values():
                    clock.rest()

    def cancel_calls(self) -> None:
        """End the calls of engines, unless another run may have made them."""
        with self._lock:
            if self._running == 1:
                for slot in self.slots:
                    slot.engine.cancel()

    def learn(self, runner: DeviceRunner) -> None:
        """Keep what an attempt found out for the next one."""
        with self._lock:
            self.plan = replace(self.plan, batch=min(self.plan.batch, runner.limit))
            self.redone += runner.redone

    def count(self, grid: TileGrid, pixels: int, is_exact: bool) -> None:
        """Add a finished image to the figures."""
        with self._lock:
            self._images += 1
            self._exact_images += is_exact
            self._computed += len(grid) * math.prod(grid.tile)
            self._wanted += pixels
            self._tile = max(self._tile, grid.tile, key=math.prod)

    def stats(self) -> Stats:
        """Figures of all runs so far; those that overlap count once in `seconds`."""
        reports = tuple(self.clocks[name].report() for name in STAGES)
        engine = self.slots[0].engine
        return Stats(
            stages=reports,
            bottleneck=max(reports, key=lambda report: report.busy / report.workers).name,
            engine_idle=self.clocks["infer"].idle,
            seconds=self._seconds + (time.perf_counter() - self._start if self._running else 0.0),
            images=self._images,
            megapixels=self._wanted / 1e6,
            redundancy=self._computed / max(1, self._wanted),
            tile=self._tile,
            batch=self.plan.batch,
            redone=self.redone,
            precision=engine.precision,
            why=engine.why,
            exact_images=self._images if engine.precision == "fp32" else self._exact_images,
        )


class _Attempt:
    """One try at a list of jobs with one size of tile: the threads, and the queues between them."""

    def __init__(self, pipeline: Pipeline, jobs: Iterator[tuple[int, ImageJob]]) -> None:
        self._pipeline, self._spec, self.plan = pipeline, pipeline.spec, pipeline.plan
        self._clocks = pipeline.clocks
        self._jobs = jobs
        self._tasks: list[_ImageState] = []  # those not finished
        self._lock = threading.Lock()
        self._slots: BoundedQueue[None] = BoundedQueue(pipeline.max_in_flight or 2**30)
        self._to_decode: BoundedQueue[_ImageState] = BoundedQueue(1)
        self._to_tile: BoundedQueue[_ImageState] = BoundedQueue(pipeline.decoders)
        # As many images as a batch has rows may wait for it to fill: each must find its place here.
        self._to_encode: BoundedQueue[_ImageState] = BoundedQueue(pipeline.decoders + self.plan.batch)
        self._batches: BoundedQueue[Numbered[_Key]] = BoundedQueue(2)
        # Each thread that infers may be one batch ahead of the slowest.
        self._outputs: OrderedQueue[list[Tiles[_Key]]] = OrderedQueue(self._clocks["infer"].workers + 1)
        self._runner = DeviceRunner(pipeline.slots, self.plan.batch)
        self._inference = Inference(self._runner, self._clocks["infer"], self._batches, self._outputs)
        self._done: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
        self._encoders_left = pipeline.encoders

    def outcomes(self) -> Iterator[Outcome]:
        """Start, and hand out what is done until all is."""
        work: list[tuple[str, Callable[[], None]]] = [
            ("tile", self._tile),
            ("blend", self._blend),
        ]
        work += [("infer", self._inference.work)] * self._clocks["infer"].workers
        work += [("decode", self._decode)] * self._pipeline.decoders
        work += [("encode", self._encode)] * self._pipeline.encoders
        threads: list[threading.Thread] = []
        failure: BaseException | None = None
        try:
            self._feeder = start_thread("feed", self._feed, self._done.put)
            threads += [start_thread(name, action, self._done.put) for name, action in work]
            while (item := self._done.get()) is not None:
                if isinstance(item, BaseException):
                    failure = item
                    break
                yield item
        finally:
            self._stop(threads)
            self._pipeline.learn(self._runner)
        if failure:
            while not self._done.empty():
                if isinstance(item := self._done.get(), Outcome):
                    yield item
            try:
                raise failure
            finally:
                del failure, item  # it knows this frame, and would keep all tiles until the collector comes

    def unfinished(self) -> list[tuple[int, ImageJob]]:
        """Jobs that were begun and have no outcome, once nobody asks the iterator of jobs any more."""
        self._feeder.join()  # it may be fetching one job more, which must not be lost
        return [(task.index, task.job) for task in self._tasks]

    def _stop(self, threads: list[threading.Thread]) -> None:
        """End all threads, wherever they are, and leave no half-written output."""
        for shared in (self._slots, self._to_decode, self._to_tile, self._to_encode, self._batches, self._outputs):
            shared.cancel()
        self._pipeline.cancel_calls()
        with self._lock:
            tasks = list(self._tasks)
        for task in tasks:
            task.row_blocks.cancel()
            task.rows.cancel()
            if task.sink:  # first: its thread may wait inside it
                task.sink.abort()
        for thread in threads:
            thread.join()
        for task in self._tasks:
            self._take_back(task)
            if task.sink:  # opened since
                task.sink.abort()

    def _feed(self) -> None:
        for index, job in self._jobs:
            task = _ImageState(job, index)
            with self._lock:
                self._tasks.append(task)
            self._slots.put(None)
            for waiting in (self._to_decode, self._to_tile, self._to_encode):
                waiting.put(task)
        for waiting in (self._to_decode, self._to_tile, self._to_encode):
            waiting.close()

    def _decode(self) -> None:
        for task in self._to_decode:
            try:
                with self._clocks["decode"].working(taken=1):
                    source = task.job.open_source()
                with closing(source):
                    self._prepare(task, source.info)
                    self._admit(task, whole_bytes_of(source))
                    self._read_row_blocks(task, source)
                task.row_blocks.close()
            except SrTileError as error:
                task.fail(error)
            except Cancelled:
                if not task.error:
                    raise
            except (OSError, MemoryError, *DEFECTS) as error:
                task.fail(unexpected_of(task.job.name, error))
            finally:
                task.is_admitted = True
                self._pipeline.whole_images.release((self, task.index))

    def _admit(self, task: _ImageState, size: int) -> None:
        """Wait until there is room for an image that is decoded as a whole, behind those before it."""
        whole_images = self._pipeline.whole_images

        def is_wanted() -> bool:
            return not (self._slots.cancelled or task.error)

        def is_next() -> bool:
            with self._lock:
                return all(other.is_admitted for other in self._tasks if other.index < task.index)

        while size and not is_next():
            if not is_wanted():
                raise Cancelled
            time.sleep(ADMIT_SECONDS)
        if not whole_images.reserve((self, task.index), task.job.name, size, is_wanted):
            raise Cancelled
        task.is_admitted = True

    def _prepare(self, task: _ImageState, info: ImageInfo) -> None:
        """Lay out the tiles and open the output, so that what cannot work fails before it costs anything."""
        spec, scale = self._spec, self._spec.scale or 1
        separate_alpha = info.has_alpha and self._pipeline.alpha == "bicubic"
        task.info, task.grid = info, tile_grid_for(self.plan, info, scale, self._pipeline.alpha)
        if task.job.strip:
            task.grid = replace(task.grid, strip=task.job.strip(task.grid))
        if task.job.on_grid:
            task.job.on_grid(task.grid)
        task.parts = parts_of(info.channels, spec.channels, self._pipeline.alpha)
        task.accumulator = TileBlender(task.grid, scale, info.channels, len(task.parts) + separate_alpha)
        task.sink = task.job.open_sink(replace(info, height=info.height * scale, width=info.width * scale))

    def _read_row_blocks(self, task: _ImageState, source: Source) -> None:
        """Read the image, or its strip, once, top to bottom; neighbouring rows of tiles share rows of pixels."""
        axis = task.grid.y
        pixels: np.ndarray | None = None
        for row in task.grid.rows:
            start = axis.starts[row]
            with self._clocks["decode"].working(made=1):
                end = min(start + axis.tile, axis.length)
                kept = None if pixels is None else pixels[start - axis.starts[row - 1] :]
                wanted = end - start - (0 if kept is None else len(kept))
                fresh = source.read_rows(wanted)
                if len(fresh) != wanted:
                    raise ImageReadError(
                        f"{task.job.name}: ends after {end - wanted + len(fresh)} rows of {axis.length}"
                    )
                pixels = fresh if kept is None else np.concatenate([kept, fresh])
            task.row_blocks.put(_RowBlock(row, pixels))

    def _tile(self) -> None:
        builder: BatchBuilder[_Key] = BatchBuilder(self.plan.batch)
        numbers = itertools.count()

        def send(batches: list[Batch[_Key]]) -> None:
            for batch in batches:
                self._batches.put(Numbered(next(numbers), batch))

        # No image comes before this one is done where one at a time is under way.
        timeout = BATCH_TIMEOUT_LAST if self._pipeline.max_in_flight == 1 else BATCH_TIMEOUT
        # Where the next image is long in coming, the tiles at hand do not wait for it.
        for task in self._to_tile.items(timeout=timeout, on_wait=lambda: send(builder.flush())):
            try:
                for number, block in enumerate(task.row_blocks):
                    if number == 0:
                        task.is_exact = self._needs_float32(task, block)
                    for column in range(len(task.grid.x.starts)):
                        with self._clocks["tile"].working(taken=column == 0, made=len(task.parts)):
                            rows = list(self._cut(task, block, column))
                            batches = [batch for key, tile in rows for batch in builder.add(key, tile, task.is_exact)]
                        send(batches)
            except Cancelled:
                if not task.error:
                    raise
        send(builder.flush())
        self._batches.close()

    def _needs_float32(self, task: _ImageState, block: _RowBlock) -> bool:
        """Whether fewer bits will not do: the result holds more than 8, or its own first tiles show the difference.

        It depends on the image alone, so that an image comes out the same alone and in a list.
        """
        slot = self._pipeline.slots[0]
        if slot.engine.bound is None:
            return False
        assert task.sink is not None  # opened before the first row
        # A job that goes on where it was killed does not begin with the first tiles.
        if task.job.strip or task.sink.dtype != np.uint8 or task.info.height * task.info.width < LEAST_PIXELS:
            return True
        pieces = [_unit(piece) for piece in pieces_of(self._spec, block.pixels_hwc)]
        with slot.use() as engine:
            return not agrees(engine, [self._gather(part, piece) for piece in pieces for part in task.parts])

    def _cut(self, task: _ImageState, block: _RowBlock, column: int) -> Iterator[tuple[_Key, np.ndarray]]:
        """The rows that one tile contributes to a batch, in the model's range of values."""
        height, width = task.grid.tile
        outer = Region(0, task.grid.x.starts[column], height, width)
        real = block.pixels_hwc[outer.slices]
        tile = pad(real, height, width, task.grid.x.multiple, self._spec.padding)
        unit = _unit(tile)
        separate_alpha = task.info.has_alpha and self._pipeline.alpha == "bicubic"
        # What stands behind the end is for the network: of alpha nothing is invented.
        alpha = unit[-1:, : real.shape[0], : real.shape[1]] if separate_alpha else None
        for number, part in enumerate(task.parts):
            key = _Key(task, block.row, column, part, alpha if number == 0 else None)
            yield key, self._gather(part, unit)

    def _gather(self, part: Part, unit_chw: np.ndarray) -> np.ndarray:
        """What the network reads of a tile of range [0, 1], in its own range of values."""
        low, high = self._spec.value_range
        pixels = part.gather(unit_chw)
        return pixels if (low, high) == (0.0, 1.0) else pixels * np.float32(high - low) + np.float32(low)

    def _blend(self) -> None:
        for pieces in self._outputs:
            for key, tile in (pair for keys, output in pieces for pair in zip(keys, output, strict=True)):
                if key.is_failed:
                    continue
                try:
                    self._blend_tile(key, tile)
                except SrTileError as error:
                    key.fail(error)
                except Cancelled:
                    if not key.is_failed:
                        raise

    def _blend_tile(self, key: _Key, output_chw: np.ndarray) -> None:
        """Add one tile to its image, and pass on the rows that it finished."""
        task, spec = key.task, self._spec
        assert task.sink is not None  # opened before the first row
        with self._clocks["blend"].working(taken=1):
            low, high = spec.value_range
            if (low, high) != (0.0, 1.0):
                output_chw = (output_chw - np.float32(low)) / np.float32(high - low)
            pieces = [(key.part.scatter(output_chw), key.part.channels)]
            if key.alpha_chw is not None:
                last = task.info.channels - 1
                pieces.append((enlarge_bicubic(key.alpha_chw, spec.scale or 1), slice(last, last + 1)))
        for piece, channels in pieces:
            with self._clocks["blend"].working():
                blocks = task.accumulator.add(key.row, key.column, piece, channels)
            while True:
                if (block := next(blocks, None)) is None:
                    break
                with self._clocks["blend"].working(made=1):
                    rows = quantise(block, task.sink.dtype)
                task.rows.put(rows)
        if key.part is task.parts[-1]:
            inner = task.grid.inner(key.row, key.column)
            task.pixels_done += inner.height * inner.width
            self._pipeline.on_progress(task.job, inner.height * inner.width)
        if task.accumulator.done:
            task.rows.close()

    def _encode(self) -> None:
        for task in self._to_encode:
            try:
                for rows in task.rows:
                    assert task.sink is not None  # opened before the first row
                    with self._clocks["encode"].working(taken=1):
                        task.sink.write_rows(rows)
                if task.sink and not task.error:
                    with self._clocks["encode"].working(made=1):
                        task.sink.close()
            except SrTileError as error:
                task.fail(error)
            except Cancelled:
                if not task.error:
                    raise
            except (OSError, MemoryError, *DEFECTS) as error:
                task.fail(unexpected_of(task.job.name, error))
            self._report(task)
        with self._lock:
            self._encoders_left -= 1
            last = self._encoders_left == 0
        if last:
            self._done.put(None)

    def _take_back(self, task: _ImageState) -> None:
        """Uncount the pixels of an image that has to start again, or failed."""
        self._pipeline.on_progress(task.job, -task.pixels_done)

    def _report(self, task: _ImageState) -> None:
        if task.error and task.sink:
            task.sink.abort()
        with self._lock:
            self._tasks.remove(task)
        pixels = 0 if task.error else task.pixels_done
        if task.error:
            self._take_back(task)
        else:
            self._pipeline.count(task.grid, pixels, task.is_exact)
        self._done.put(Outcome(task.job, task.index, task.error, pixels, task.sink))
        next(self._slots.items())


def _unit(tile_hwc: np.ndarray) -> np.ndarray:
    """(C, h, w), float32, range [0, 1]."""
    largest = 1 if tile_hwc.dtype == np.float32 else np.iinfo(tile_hwc.dtype).max
    return np.divide(tile_hwc.transpose(2, 0, 1), np.float32(largest), dtype=np.float32, order="C")
