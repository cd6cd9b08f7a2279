"""A thread pool for pieces of one picture, where the engine leaves the processor to it."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from sr_tile.engines.base import Engine
from sr_tile.system.cpu import thread_count

MOST_WORKERS = 16
Item = TypeVar("Item")


def threads_beside(engines: Iterable[Engine]) -> int:
    """How many threads move pixels: all that the machine has, or one where an engine computes on the processor."""
    return 1 if any(engine.uses_host_memory for engine in engines) else thread_count()


def workers_beside(engines: Iterable[Engine], *, is_bounded: bool) -> int:
    """Images to read, and to write, at the same time: two, for each takes memory; half of the threads where a GPU waits.

    is_bounded: memory is limited by the user.
    """
    return 2 if is_bounded else min(MOST_WORKERS, max(2, threads_beside(engines) // 2))


class ThreadPool:
    """Does many small things side by side; the thread that asks does its share, and any number of them may ask at a time.

    Args:
        threads: that work at a time, with the one that asks; 1 starts none.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "sr-tile pixels") if threads > 1 else None

    def for_each(self, task: Callable[[Item], None], items: Sequence[Item]) -> None:
        """Call a function with each item, in any order, and wait for all; what one raises is raised when all have ended."""

        def do(part: Sequence[Item]) -> None:
            for item in part:
                task(item)

        count = min(self._threads, len(items))
        if self._pool is None or count < 2:
            do(items)
            return
        futures = [self._pool.submit(do, items[place::count]) for place in range(1, count)]
        try:
            do(items[::count])
        finally:
            wait(futures)
        while futures:  # none of them is left where one raises: no circle of frames may keep pixels
            futures.pop().result()

    def close(self) -> None:
        """End its threads; nobody asks any more."""
        if self._pool:
            self._pool.shutdown()
