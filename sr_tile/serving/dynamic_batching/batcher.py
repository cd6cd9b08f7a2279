"""`DynamicBatcher`: requests of many threads and tasks in one call of the model."""

import asyncio
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any

from sr_tile.errors import ArgumentError, DeadlineError, Overloaded, StoppedError
from sr_tile.serving.dynamic_batching.collate import Batcher, ConcatBatcher, Request
from sr_tile.serving.dynamic_batching.fair_queue import Entry, FairQueue

log = logging.getLogger("sr_tile")


@dataclass(frozen=True)
class Call:
    """One call of the model, for figures.

    Attributes:
        requests: that were in the batch.
        weight: of the batch, in the units of `max_batch_size`.
        waited: seconds that each request spent in the queue.
        seconds: that the call took, with those that repeated it request by request.
    """

    requests: int
    weight: int
    waited: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Counts:
    """What became of the requests since the batcher was made; `weight / calls` is the mean fill of a batch."""

    accepted: int = 0
    refused: int = 0
    answered: int = 0
    failed: int = 0
    calls: int = 0
    weight: int = 0


class DynamicBatcher:
    """Calls `predict_batch` with the requests of many callers at once; each gets its own answer, as if it were alone.

    A batch leaves when it is full, or when it has waited `max_wait_ms` for more. An engine that is idle takes at once what
    is there: only one that has just answered waits for its callers to come back (`FairQueue.take`). Where callers compete,
    those that got least go first. A batch that fails is repeated request by request, so that a bad one fails alone.

    >>> with DynamicBatcher(lambda x: x * 2) as host:
    ...     host.predict(np.ones((1, 3))).tolist()
    [[2.0, 2.0, 2.0]]

    Args:
        predict_batch: the model, or several: each is called by a thread of its own, for as many devices or workers.
        batcher: how requests become one batch; by default they are joined along their first axis.
        max_batch_size: weight of a batch at most.
        max_wait_ms: how long an incomplete batch waits for more.
        max_queue: requests that wait at most; None is no bound.
        weigh: weight of a request; by default its rows.
        on_call: is told of each call of the model, in the worker's thread.

    Raises:
        ArgumentError: a number is out of its range.
    """

    def __init__(
        self,
        predict_batch: Callable[..., Any] | Sequence[Callable[..., Any]],
        batcher: Batcher | None = None,
        *,
        max_batch_size: int = 32,
        max_wait_ms: float = 5.0,
        max_queue: int | None = 1024,
        weigh: Callable[[Request], int] | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        self._models = [predict_batch] if callable(predict_batch) else list(predict_batch)
        if not self._models or max_batch_size < 1 or max_wait_ms < 0 or (max_queue is not None and max_queue < 1):
            raise ArgumentError(
                f"{len(self._models)} models, max_batch_size {max_batch_size} and max_queue {max_queue} must be 1 or more, "
                f"and max_wait_ms {max_wait_ms} 0 or more"
            )
        self._batcher = batcher or ConcatBatcher()
        self.max_batch_size, self.max_wait_ms, self.max_queue = max_batch_size, max_wait_ms, max_queue
        self._weigh = weigh or self._batcher.rows
        self._on_call = on_call or (lambda call: None)
        self._lock = threading.Lock()
        self._queue = FairQueue(max_queue)
        self._queue.close()
        self._threads: list[threading.Thread] = []
        self._running: set[Entry] = set()
        self._counts = Counts()

    # Life -------------------------------------------------------------------------------------------------------------

    def start(self) -> "DynamicBatcher":
        """Start the workers; harmless where they run already. After `stop`, or during it, it starts afresh."""
        with self._lock:
            if self._queue.closed:
                # A queue of its own: a worker that an impatient stop left behind must never meet the new requests.
                self._queue = FairQueue(self.max_queue)
                self._threads = [
                    threading.Thread(target=self._work, args=(model, self._queue), name="sr-tile batch", daemon=True)
                    for model in self._models
                ]
                for thread in self._threads:
                    thread.start()
        return self

    def stop(self, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more requests and end the workers; when it returns, every future has its answer.

        Args:
            drain: answer what waits; otherwise it fails with `StoppedError`. Calls of the model that are under way finish.
            timeout: seconds after which what is left fails too, calls under way included; None waits.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            queue, threads = self._queue, self._threads
        queue.close()
        if not drain:
            self._refuse(queue.clear())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(None if end is None else max(0.0, end - time.monotonic()))
        self._refuse(queue.clear())
        if any(thread.is_alive() and thread is not threading.current_thread() for thread in threads):
            with self._lock:
                running = list(self._running)
            for entry in running:
                entry.fail(StoppedError("the batcher was stopped while this request ran"))

    @staticmethod
    def _refuse(entries: Iterable[Entry]) -> None:
        for entry in entries:
            entry.refuse(StoppedError("the batcher was stopped before it came to this request"))

    def __enter__(self) -> "DynamicBatcher":
        return self.start()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop(drain=error is None)

    async def __aenter__(self) -> "DynamicBatcher":
        return self.start()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await asyncio.to_thread(self.stop, drain=error is None)

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return not self._queue.closed

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @property
    def counts(self) -> Counts:
        """Figures so far."""
        return self._counts

    # Requests ---------------------------------------------------------------------------------------------------------

    def submit(
        self, *inputs: Any, timeout: float | None = None, caller: Hashable = None, share: float = 1.0
    ) -> "Future[Any]":
        """Queue a request, and return at once.

        Args:
            inputs: what `predict_batch` takes, for this request alone.
            timeout: seconds after which the answer is not wanted any more.
            caller: requests with the same one share what a caller gets; None is a caller of its own.
            share: how much faster than others this caller is served; 2 is twice as fast.

        Returns:
            The future answer; `cancel()` takes the request out of the queue.

        Raises:
            ArgumentError: no request for this batcher; or heavier than a batch may be.
            Overloaded: the queue is full.
            StoppedError: the batcher is not running.
        """
        return self.submit_all([inputs], timeout=timeout, caller=caller, share=share)[0]

    def submit_all(
        self, requests: Sequence[Request], *, timeout: float | None = None, caller: Hashable = None, share: float = 1.0
    ) -> "list[Future[Any]]":
        """As `submit` for several requests of one caller: all are queued, or none."""
        if not share > 0:
            raise ArgumentError(f"share {share} must be more than 0")
        expires = None if timeout is None else time.monotonic() + timeout
        entries = []
        for request in requests:
            key, weight = self._batcher.key(request), self._weigh(request)
            if weight > self.max_batch_size:
                raise ArgumentError(
                    f"the request weighs {weight}, and a batch {self.max_batch_size} at most; "
                    "cut it, or raise max_batch_size"
                )
            entries.append(Entry(request, key, weight, caller, share, expires))
        queue = self._queue
        try:
            queue.put(entries)
        except Overloaded:
            self._count(refused=len(entries))
            raise
        self._count(accepted=len(entries))
        for entry in entries:
            entry.future.add_done_callback(functools.partial(_leave, queue, weakref.ref(entry)))
        return [entry.future for entry in entries]

    def predict(self, *inputs: Any, timeout: float | None = None, caller: Hashable = None, share: float = 1.0) -> Any:
        """Send a request and wait for its answer; for threads.

        Raises:
            DeadlineError: `timeout` seconds have passed.
            Exception: as `submit`, and what the model raised for this request.
        """
        future = self.submit(*inputs, timeout=timeout, caller=caller, share=share)
        try:
            done = wait([future], timeout).done
        except BaseException:  # an interrupt: nobody waits any more
            future.cancel()
            raise
        if not done:
            future.cancel()
            raise _late(timeout)
        try:
            return future.result()
        finally:
            del future, done  # an error knows this frame: no circle may keep the request

    async def apredict(
        self, *inputs: Any, timeout: float | None = None, caller: Hashable = None, share: float = 1.0
    ) -> Any:
        """As `predict`, for asyncio; cancelling the task takes the request out of the queue."""
        future = self.submit(*inputs, timeout=timeout, caller=caller, share=share)
        waiting = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait([waiting], timeout=timeout)
        finally:
            if not waiting.done():
                future.cancel()  # at once; that of `waiting` would reach it in the loop's next turn
                waiting.cancel()
        if not done:
            raise _late(timeout)
        try:
            return waiting.result()
        finally:
            del future, waiting, done

    # Workers ----------------------------------------------------------------------------------------------------------

    def _work(self, model: Callable[..., Any], queue: FairQueue) -> None:
        expected = 0
        while batch := queue.take(self.max_batch_size, expected, self.max_wait_ms / 1000):
            weight = sum(entry.weight for entry in batch)
            with self._lock:
                self._running.update(batch)
            start = time.monotonic()
            for number, (entry, answer, error) in enumerate(self._results(model, batch)):
                if number == 0:  # before anybody who is answered can come back
                    expected = weight + queue.weight
                if error is None:
                    entry.answer(answer)
                else:
                    entry.fail(error)
                    self._count(failed=1)
            seconds = time.monotonic() - start
            answer = error = None
            with self._lock:
                self._running.difference_update(batch)
            self._count(calls=1, weight=weight)
            try:
                self._on_call(Call(len(batch), weight, tuple(start - entry.arrived for entry in batch), seconds))
            except Exception:
                log.exception("on_call failed")
            del batch, entry  # while it waits for the next batch, it keeps nothing of this one

    def _results(
        self, model: Callable[..., Any], batch: list[Entry]
    ) -> Iterator[tuple[Entry, Any, BaseException | None]]:
        """(entry, answer, error) of all in a batch, whatever happens."""
        answers, failure = self._attempt(model, [entry.request for entry in batch])
        if failure is None:
            self._count(answered=len(batch))
            for entry, answer in zip(batch, answers, strict=True):
                yield entry, answer, None
        elif len(batch) == 1:
            yield batch[0], None, failure
        else:
            log.debug("a batch of %d failed (%s); going on one by one", len(batch), failure)
            for entry in batch:
                yield from self._results(model, [entry])
        # A failure knows its frames and the one that called them: no circle may keep requests until the collector comes.
        batch, failure, entry = [], None, None  # type: ignore[assignment]

    def _attempt(self, model: Callable[..., Any], requests: list[Request]) -> tuple[list[Any], BaseException | None]:
        """One call of the model: answers, or what it raised, which belongs to its callers; the worker goes on."""
        try:
            inputs, context = self._batcher.batch(requests)
            answers = self._batcher.unbatch(model(*inputs), context)
            if len(answers) != len(requests):
                raise ArgumentError(f"unbatch made {len(answers)} answers for {len(requests)} requests")
            return answers, None
        except BaseException as error:
            return [], error

    def _count(self, **more: int) -> None:
        with self._lock:
            counts = self._counts
            self._counts = replace(counts, **{name: getattr(counts, name) + number for name, number in more.items()})


def _leave(queue: FairQueue, reference: "weakref.ref[Entry]", future: "Future[Any]") -> None:
    """A request that was cancelled makes room at once. The queue holds the entry, and a future remembers its callbacks."""
    entry = reference()
    if entry and future.cancelled() and queue.discard(entry):
        future.set_running_or_notify_cancel()  # who waits for several futures at once is not told before


def _late(timeout: float | None) -> DeadlineError:
    return DeadlineError(f"no answer within {timeout} seconds; allow more, or send fewer requests at a time")
