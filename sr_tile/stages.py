"""What the stages of the pipeline are made of: bounded queues between threads, and one clock a stage."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Cancelled(Exception):  # noqa: N818  # a signal between threads, never an error that a user sees
    """The queue was cancelled: the thread that meets it stops."""


class _Queue:
    """What ends a queue, whatever it holds: `cancelled` once nobody will read it."""

    _items: Any

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = self.cancelled = False

    def close(self) -> None:
        """No more items will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop everything; whoever waits here stops."""
        with self._changed:
            self.cancelled = True
            self._items.clear()
            self._changed.notify_all()


class BoundedQueue(_Queue, Generic[Item]):
    """A bounded queue that can end in two ways: closed (what is in it is still read) or cancelled (nothing is).

    Args:
        size: items it holds at most; `put` waits for room.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._items: deque[Item] = deque()
        self._size = size

    def put(self, item: Item) -> None:
        """Append an item, waiting for room.

        Raises:
            Cancelled: nobody will read it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or len(self._items) < self._size)
            if self.cancelled:
                raise Cancelled
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Items until the queue is closed and empty; several threads may share them.

        Raises:
            Cancelled: the queue was cancelled.
        """
        return self.items()

    def items(self, patience: float | None = None, on_wait: Callable[[], None] = lambda: None) -> Iterator[Item]:
        """As iterating does; `on_wait` is called whenever nothing came for `patience` seconds."""
        while True:
            with self._changed:
                ready = self._changed.wait_for(lambda: self.cancelled or self._closed or bool(self._items), patience)
                if self.cancelled:
                    raise Cancelled
                if ready and not self._items:
                    return
                item = self._items.popleft() if ready else None
                self._changed.notify_all()
            if ready:
                yield item  # type: ignore[misc]  # an item was there
            else:
                on_wait()


class OrderedQueue(_Queue, Generic[Item]):
    """A bounded queue of numbered items that several threads fill in any order and one reads in that of the numbers.

    Args:
        size: how far an item may be ahead of the one that is read next. It is never waited for with a later one in
            hand, so that threads which take numbers in turn cannot block each other.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._items: dict[int, Item] = {}
        self._size, self._next = size, 0

    def put(self, number: int, item: Item) -> None:
        """Add item `number`, each from 0 up once, waiting until its turn is near.

        Raises:
            Cancelled: nobody will read it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or number < self._next + self._size)
            if self.cancelled:
                raise Cancelled
            self._items[number] = item
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Items by their numbers until the queue is closed and empty.

        Raises:
            Cancelled: the queue was cancelled.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.cancelled or self._closed or self._next in self._items)
                if self.cancelled:
                    raise Cancelled
                if self._next not in self._items:
                    return
                item = self._items.pop(self._next)
                self._next += 1
                self._changed.notify_all()
            yield item


@dataclass(frozen=True)
class StageReport:
    """What one stage did; seconds are those of work, without waiting for its neighbours.

    Attributes:
        name: of the stage.
        workers: threads that do it.
        items_in: what it took: images, bands, rows of a batch, ...
        items_out: what it made of it.
        shortest: seconds of the shortest piece of work.
        mean: seconds of one, on average.
        longest: seconds of the longest.
        busy: seconds of all pieces together.
        throughput: items made per second, if nothing else held the workers up.
    """

    name: str
    workers: int
    items_in: int
    items_out: int
    shortest: float
    mean: float
    longest: float
    busy: float
    throughput: float


class StageClock:
    """Adds up the time a stage spends working; shared by the stage's threads."""

    def __init__(self, name: str, workers: int = 1) -> None:
        self.name, self.workers = name, workers
        self._in = self._out = self._pieces = 0
        self._busy, self._shortest, self._longest = 0.0, float("inf"), 0.0
        self._first, self._last = float("inf"), 0.0
        self._lock = threading.Lock()

    @contextmanager
    def working(self, taken: int = 0, made: int = 0) -> Iterator[None]:
        """Time one piece of work that takes and makes that many items; one that fails counts as well."""
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._lock:
                self._in, self._out, self._pieces = self._in + taken, self._out + made, self._pieces + 1
                self._busy += end - start
                self._first, self._last = min(self._first, start), max(self._last, end)
                self._shortest, self._longest = min(self._shortest, end - start), max(self._longest, end - start)

    @property
    def idle(self) -> float:
        """Share of the time between the first piece's start and the last one's end in which nothing was worked on."""
        span = (self._last - self._first) * self.workers
        return max(0.0, 1 - self._busy / span) if span > 0 else 0.0

    def report(self) -> StageReport:
        """The figures so far."""
        return StageReport(
            name=self.name,
            workers=self.workers,
            items_in=self._in,
            items_out=self._out,
            shortest=self._shortest if self._pieces else 0.0,
            mean=self._busy / self._pieces if self._pieces else 0.0,
            longest=self._longest,
            busy=self._busy,
            throughput=self._out * self.workers / self._busy if self._busy else 0.0,
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
