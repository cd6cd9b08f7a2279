"""One clock a stage: how long its threads worked, and on how many items."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class StageReport:
    """What one stage did; seconds are those of work, without waiting for its neighbours.

    Attributes:
        name: of the stage.
        workers: threads that do it.
        items_in: what it took: images, strips, rows of a batch, ...
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
        self._first, self._last, self._spans = float("inf"), 0.0, 0.0
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

    def count(self, made: int) -> None:
        """Items made by work that was timed before."""
        with self._lock:
            self._out += made

    def rest(self) -> None:
        """Nothing is to be done for now: what follows until the next piece is no idle time."""
        with self._lock:
            self._spans += max(0.0, self._last - self._first)
            self._first, self._last = float("inf"), 0.0

    @property
    def idle(self) -> float:
        """Share of the time in which nothing was worked on, from the first piece's start to the last one's end or `rest`."""
        span = (self._spans + max(0.0, self._last - self._first)) * self.workers
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
