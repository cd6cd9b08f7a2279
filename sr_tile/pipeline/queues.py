"""What the stages of the pipeline are made of: bounded queues between threads, and one clock a stage."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
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

    def items(self, timeout: float | None = None, on_wait: Callable[[], None] = lambda: None) -> Iterator[Item]:
        """As iterating does; `on_wait` is called whenever nothing came for `timeout` seconds."""
        while True:
            with self._changed:
                ready = self._changed.wait_for(lambda: self.cancelled or self._closed or bool(self._items), timeout)
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
