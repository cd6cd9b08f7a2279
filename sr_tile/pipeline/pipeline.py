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
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from sr_tile.engines.base import Engine
from sr_tile.engines.device_runner import DeviceRunner, TileTooLargeError, device_slots
from sr_tile.errors import ArgumentError
from sr_tile.images import TargetSize
from sr_tile.images.edges import Edges
from sr_tile.pipeline.attempt import Attempt, Resources
from sr_tile.pipeline.clock import StageClock
from sr_tile.pipeline.image_job import ImageJob, Outcome, Stats
from sr_tile.pipeline.image_state import ImageState, StageContext
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan
from sr_tile.tiling.channels import Alpha

log = logging.getLogger("sr_tile")

STAGES = ("decode", "tile", "infer", "blend", "encode")


class Pipeline:
    """Runs jobs through one engine, or several side by side.

    Args:
        engines: run the tiles; several must be of one model. Each is called by as many threads as its
            `max_concurrency` says.
        plan: tiles and batch; `self.plan` becomes smaller when the device runs out of memory.
        alpha: how an alpha channel is enlarged, see `channels`.
        size: of the results; they are reduced to it as they are written.
        edges: how pictures go on beyond their borders; None leaves it to the network.
        decoders: images read at the same time.
        encoders: images written at the same time.
        on_progress: called with (job, input pixels that were just finished), from a thread of the pipeline.
        max_in_flight: images between the first row and the last at the same time; None leaves it to the queues.

    Attributes:
        whole_images: memory for those that are decoded or encoded as a whole, with their rows: one of its own, as large as
            the rows of all under way may be, unless it is given one that several pipelines share.
    """

    def __init__(  # noqa: PLR0913  # options by keyword, each with a default
        self,
        engines: Engine | Sequence[Engine],
        plan: Plan,
        *,
        alpha: Alpha = "bicubic",
        size: TargetSize | None = None,
        edges: Edges | None = None,
        decoders: int = 2,
        encoders: int = 2,
        on_progress: Callable[[ImageJob, int], None] | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        share = plan.strip_budget
        self.whole_images = WholeImages(None if share is None else share * (decoders + 1))
        self.max_in_flight = max_in_flight
        self.slots = device_slots(engines)
        self.spec = self.slots[0].engine.spec
        self.plan, self.alpha, self.size = plan, alpha, size or TargetSize()
        self.edges = edges or Edges()
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
                context = StageContext(
                    self.spec, self.plan, self.alpha, self.size, self.edges, self.clocks, self.on_progress
                )
                attempt = Attempt(context, self._resources(), pending, self._count)
                try:
                    yield from attempt.outcomes()
                    return
                except TileTooLargeError as error:
                    with self._lock:
                        if self.plan.tile == context.plan.tile:  # no other run has met it before
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
                    self._learn(attempt.runner)
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

    def _resources(self) -> Resources:
        return Resources(
            self.slots, self.whole_images, self.decoders, self.encoders, self.max_in_flight, self._cancel_calls
        )

    def _cancel_calls(self) -> None:
        """End the calls of engines, unless another run may have made them."""
        with self._lock:
            if self._running == 1:
                for slot in self.slots:
                    slot.engine.cancel()

    def _learn(self, runner: DeviceRunner) -> None:
        """Keep what an attempt found out for the next one."""
        with self._lock:
            self.plan = replace(self.plan, batch=min(self.plan.batch, runner.limit))
            self.redone += runner.redone

    def _count(self, image: ImageState) -> None:
        """Add a finished image to the figures."""
        tile = image.grid.tile
        with self._lock:
            self._images += 1
            if image.is_only_reduced:  # no network saw it
                return
            self._exact_images += image.is_exact
            self._computed += len(image.grid) * math.prod(tile)
            self._wanted += image.pixels_done
            self._tile = max(self._tile, tile, key=math.prod)

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
