"""What the stages of the pipeline are made of: bounded queues between threads, and one clock a stage."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Cancelled(Exception):  # noqa: N818  # a signal between threads, never an error that a user sees
    """The queue was cancelled: the thread that meets it stops."""


class BoundedQueue(Generic[Item]):
    """A bounded queue that can end in two ways: closed (what is in it is still read) or cancelled (nothing is).

    Args:
        size: items it holds at most; `put` waits for room.
    """

    def __init__(self, size: int) -> None:
        self._items: deque[Item] = deque()
        self._size = size
        self._changed = threading.Condition()
        self._closed = self._cancelled = False

    def put(self, item: Item) -> None:
        """Append an item, waiting for room.

        Raises:
            Cancelled: nobody will read it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._size)
            if self._cancelled:
                raise Cancelled
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """No more items will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop everything; whoever waits here stops."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Items until the queue is closed and empty; several threads may share them.

        Raises:
            Cancelled: the queue was cancelled.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled or self._closed or self._items)
                if self._cancelled:
                    raise Cancelled
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


@dataclass
class StageReport:
    """What one stage did; seconds of work, without waiting for its neighbours."""

    name: str
    workers: int
    items: int
    shortest: float
    longest: float
    mean: float
    busy: float
    throughput: float


class StageClock:
    """Adds up the time a stage spends working; shared by the stage's threads."""

    def __init__(self, name: str, workers: int = 1) -> None:
        self.name, self.workers = name, workers
        self.items, self.busy = 0, 0.0
        self.first: float | None = None
        self.last = 0.0
        self._shortest, self._longest = float("inf"), 0.0
        self._lock = threading.Lock()

    @contextmanager
    def working(self, count: int = 1) -> Iterator[None]:
        """Time `count` items; one that fails counts as well. 0 is for more work on an item that was counted before."""
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._lock:
                self.items += count
                self.busy += end - start
                self.first = start if self.first is None else min(self.first, start)
                self.last = max(self.last, end)
                if count:
                    self._shortest = min(self._shortest, end - start)
                    self._longest = max(self._longest, end - start)

    @property
    def idle(self) -> float:
        """Share of the time between the first item's start and the last one's end in which no item was worked on."""
        span = self.last - self.first if self.first is not None else 0.0
        return max(0.0, 1 - self.busy / (span * self.workers)) if span else 0.0

    def report(self) -> StageReport:
        """The figures so far."""
        return StageReport(
            name=self.name,
            workers=self.workers,
            items=self.items,
            shortest=self._shortest if self.items else 0.0,
            longest=self._longest,
            mean=self.busy / self.items if self.items else 0.0,
            busy=self.busy,
            throughput=self.items * self.workers / self.busy if self.busy else 0.0,
        )


def start_thread(name: str, work: Callable[[], None], on_error: Callable[[BaseException], None]) -> threading.Thread:
    """Run `work` in a daemon thread; what it raises goes to `on_error`, but for `Cancelled`, which just ends it."""

    def guarded() -> None:
        try:
            work()
        except Cancelled:
            pass
        except BaseException as error:  # nothing may be lost in a thread: the owner decides
            on_error(error)

    thread = threading.Thread(target=guarded, name=f"sr-tile {name}", daemon=True)
    thread.start()
    return thread
