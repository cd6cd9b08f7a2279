"""One try at a list of jobs with one size of tile: the threads of all stages, and the queues between them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sr_tile.engines.device_runner import DeviceRunner, DeviceSlot
from sr_tile.pipeline.blend_stage import BlendStage
from sr_tile.pipeline.decode_stage import DecodeStage
from sr_tile.pipeline.encode_stage import EncodeStage
from sr_tile.pipeline.image_job import ImageJob, Outcome
from sr_tile.pipeline.image_state import ImagesInFlight, ImageState, StageContext, TileKey
from sr_tile.pipeline.inference import Inference, Numbered, Tiles
from sr_tile.pipeline.queues import BoundedQueue, OrderedQueue, start_thread
from sr_tile.pipeline.thread_pool import ThreadPool, threads_beside
from sr_tile.pipeline.tile_stage import TileStage
from sr_tile.pipeline.whole_images import WholeImages

BATCH_TIMEOUT = 0.2  # seconds that an unfinished batch waits for the next image
BATCH_TIMEOUT_LAST = 0.005  # the same, where none will come


@dataclass(frozen=True)
class Resources:
    """What an attempt may use.

    Attributes:
        slots: the engines.
        whole_images: memory for images that are decoded or encoded as a whole.
        decoders: images read at the same time.
        encoders: images written at the same time.
        max_in_flight: images under way at the same time; None leaves it to the queues.
        cancel_calls: ends the calls of engines.
    """

    slots: Sequence[DeviceSlot]
    whole_images: WholeImages
    decoders: int
    encoders: int
    max_in_flight: int | None
    cancel_calls: Callable[[], None]


class Attempt:
    """Does jobs until all are done, or one tile is too large.

    Args:
        context: what its stages go by.
        resources: what they may use.
        jobs: with their numbers; fetched as there is room for them.
        on_done: is told of each image that was finished.
    """

    def __init__(
        self,
        context: StageContext,
        resources: Resources,
        jobs: Iterator[tuple[int, ImageJob]],
        on_done: Callable[[ImageState], None],
    ) -> None:
        self._context, self._resources, self._jobs, self._on_done = context, resources, jobs, on_done
        self._in_flight, self._run = ImagesInFlight(), object()
        self._slots: BoundedQueue[None] = BoundedQueue(resources.max_in_flight or 2**30)
        self._to_decode: BoundedQueue[ImageState] = BoundedQueue(1)
        self._to_tile: BoundedQueue[ImageState] = BoundedQueue(resources.decoders)
        # As many images as a batch has rows may wait for it to fill: each must find its place here.
        self._to_encode: BoundedQueue[ImageState] = BoundedQueue(resources.decoders + context.plan.batch)
        self._batches: BoundedQueue[Numbered[TileKey]] = BoundedQueue(2)
        self.runner = DeviceRunner(resources.slots, context.plan.batch)
        # Each thread that infers may be one batch ahead of the slowest.
        self._outputs: OrderedQueue[list[Tiles[TileKey]]] = OrderedQueue(len(self.runner.threads) + 1)
        # No image comes before this one is done where one at a time is under way.
        timeout = BATCH_TIMEOUT_LAST if resources.max_in_flight == 1 else BATCH_TIMEOUT
        self._pool = ThreadPool(threads_beside(slot.engine for slot in resources.slots))
        self._decode = DecodeStage(context, self._to_decode, self._in_flight, resources.whole_images, self._pool)
        self._tile = TileStage(context, self._to_tile, self._batches, resources.slots, timeout, self._pool)
        self._inference = Inference(self.runner, context.clocks["infer"], self._batches, self._outputs)
        self._blend = BlendStage(context, self._outputs)
        self._encode = EncodeStage(context, self._to_encode, self._end)
        self._encoders_left = threading.Semaphore(resources.encoders - 1)
        self._done: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()

    def outcomes(self) -> Iterator[Outcome]:
        """Start, and hand out what is done until all is."""
        work: list[tuple[str, Callable[[], None]]] = [
            ("tile", self._tile.work),
            ("blend", self._blend.work),
        ]
        work += [("infer", self._inference.work)] * len(self.runner.threads)
        work += [("decode", self._decode.work)] * self._resources.decoders
        work += [("encode", self._encode_images)] * self._resources.encoders
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
        return [(image.index, image.job) for image in self._in_flight]

    def _stop(self, threads: list[threading.Thread]) -> None:
        """End all threads, wherever they are, and leave no half-written output."""
        for shared in (self._slots, self._to_decode, self._to_tile, self._to_encode, self._batches, self._outputs):
            shared.cancel()
        self._resources.cancel_calls()
        for image in self._in_flight:
            image.row_blocks.cancel()
            image.rows.cancel()
            if image.sink:  # first: its thread may wait inside it
                image.sink.abort()
        for thread in threads:
            thread.join()
        self._pool.close()
        for image in self._in_flight:
            self._take_back(image)
            if image.sink:  # opened since
                image.sink.abort()
            self._resources.whole_images.release(image.token)

    def _feed(self) -> None:
        for index, job in self._jobs:
            image = ImageState(job, index, self._run)
            self._in_flight.add(image)
            self._slots.put(None)
            for waiting in (self._to_decode, self._to_tile, self._to_encode):
                waiting.put(image)
        for waiting in (self._to_decode, self._to_tile, self._to_encode):
            waiting.close()

    def _encode_images(self) -> None:
        self._encode.work()
        if not self._encoders_left.acquire(blocking=False):  # the last of them
            self._done.put(None)

    def _end(self, image: ImageState) -> None:
        """An image is finished, or failed."""
        if image.error and image.sink:
            image.sink.abort()
        self._in_flight.remove(image)
        self._resources.whole_images.release(image.token)
        if image.error:
            self._take_back(image)
        else:
            self._on_done(image)
        pixels = 0 if image.error else image.pixels_done
        self._done.put(Outcome(image.job, image.index, image.error, pixels, image.sink, time.monotonic() - image.begun))
        next(self._slots.items())

    def _take_back(self, image: ImageState) -> None:
        """Uncount the pixels of an image that has to start again, or failed."""
        self._context.on_progress(image.job, -image.pixels_done)
