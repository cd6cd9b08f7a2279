"""A bounded queue that is fair to its callers: whoever got least goes first.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996): every caller has a clock that advances by the weight of what it
was given, divided by its share; the caller whose clock is furthest behind is next. One that comes new, or comes back,
starts at the time of the one served last, so that nobody saves up time by being away. Entries of one caller keep their
order.
"""

import contextlib
import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from sr_tile.errors import DeadlineError, Overloaded, StoppedError


@dataclass(eq=False)
class Entry:
    """One request in the queue.

    Attributes:
        request: whatever the batcher of the queue's owner takes.
        key: entries with equal keys may be taken together.
        weight: how much of a batch it fills.
        caller: whose it is; None is somebody of its own.
        share: how much faster than others the caller is served.
        expires: time of `time.monotonic` after which nobody wants the answer.
        future: of the answer.
        arrived: when it came, by `time.monotonic`.
    """

    request: Any
    key: Hashable
    weight: int = 1
    caller: Hashable = None
    share: float = 1.0
    expires: float | None = None
    future: "Future[Any]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    def answer(self, result: Any) -> None:
        """Answer a request that runs, unless it was answered already by a `stop` that waited long enough."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """As `answer`, with an error."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)

    def refuse(self, error: BaseException) -> None:
        """Answer a request that was taken out of the queue and never ran, or tell who waits that it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.fail(error)

    def late(self, now: float) -> bool:
        """True where nobody wants the answer any more."""
        return self.expires is not None and now >= self.expires


@dataclass(eq=False)
class _Flow:
    """What one caller has in the queue under one key."""

    caller: Hashable
    clock: float
    entries: deque[Entry] = field(default_factory=deque)


@dataclass(eq=False)
class _Class:
    """All entries under one key: flows by clock, the one furthest behind on top, and the weight of all together."""

    heap: list[tuple[float, int, _Flow]] = field(default_factory=list)
    flows: dict[Hashable, _Flow] = field(default_factory=dict)
    weight: int = 0


class FairQueue:
    """Bounded and fair; entries leave in batches of one key.

    Args:
        size: entries it holds at most; None is no bound.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._classes: dict[Hashable, _Class] = {}
        self._clocks: dict[Hashable, float] = {}  # of callers that are ahead of the time
        self._now = 0.0  # clock of the caller that was served last, before it was
        self._order = itertools.count()
        self._count = self._weight = 0
        self._closed = False

    def __len__(self) -> int:
        return self._count

    @property
    def weight(self) -> int:
        """Of all entries together."""
        return self._weight

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def put(self, entries: Sequence[Entry]) -> None:
        """Add entries, all or none.

        Raises:
            Overloaded: there is no room for them.
            StoppedError: the queue is closed.
        """
        late: list[Entry] = []
        try:
            with self._changed:
                if self._closed:
                    raise StoppedError("the batcher is not running; start it before sending requests")
                if self._size is not None and self._count + len(entries) > self._size:
                    now = time.monotonic()
                    late = self._remove(lambda entry: entry.late(now))
                    if self._count + len(entries) > self._size:
                        raise Overloaded(
                            f"the queue holds {self._count} requests of {self._size} at most; try again later"
                        )
                for entry in entries:
                    self._add(entry)
                self._changed.notify_all()
        finally:
            _expire(late)

    def _add(self, entry: Entry) -> None:
        group = self._classes.setdefault(entry.key, _Class())
        caller = entry.caller if entry.caller is not None else entry
        flow = group.flows.get(caller)
        if flow is None:
            flow = group.flows[caller] = _Flow(caller, max(self._now, self._clocks.get(caller, 0.0)))
            heapq.heappush(group.heap, (flow.clock, next(self._order), flow))
        flow.entries.append(entry)
        group.weight += entry.weight
        self._weight += entry.weight
        self._count += 1

    def take(self, most: int, expected: int = 0, timeout: float = 0.0) -> list[Entry]:
        """The next batch, waiting for one; its futures are marked as running.

        Callers that were just answered tend to come back at once. So while less waits than is expected, it waits for more,
        until the batch is full or `timeout` seconds have passed since this call began. Whoever comes later than that
        finds the engine idle and waits for nobody, nor does a caller that is alone.

        Args:
            most: weight of a batch at most; one entry may be heavier, and goes alone.
            expected: what was just answered and what waited then, by weight.
            timeout: seconds.

        Returns:
            Entries of one key, the caller that got least first; empty where the queue is closed and nothing is left.
        """
        until = time.monotonic() + timeout
        batch: list[Entry] = []
        while not batch:
            late: list[Entry] = []
            with self._changed:
                self._changed.wait_for(lambda: self._count or self._closed)
                while self._count and self._weight < min(most, expected) and not self._closed:
                    left = until - time.monotonic()
                    if left <= 0 or self._next_class().weight >= most:
                        break
                    self._changed.wait(left)
                if not self._count and self._closed:
                    return []
                if self._count:
                    batch, late = self._pop(most)
            _expire(late)
        return batch

    def _next_class(self) -> _Class:
        """Where the caller stands that got least."""
        return min(self._classes.values(), key=lambda group: group.heap[0][:2])

    def _pop(self, most: int) -> tuple[list[Entry], list[Entry]]:
        """(a batch, what was found to be late); cancelled entries vanish."""
        group, now = self._next_class(), time.monotonic()
        batch: list[Entry] = []
        late: list[Entry] = []
        weight = 0
        while group.heap:
            clock, _, flow = group.heap[0]
            entry = flow.entries[0]
            if batch and weight + entry.weight > most:
                break
            flow.entries.popleft()
            self._forget(group, entry)
            if entry.late(now):
                late.append(entry)
            elif entry.future.set_running_or_notify_cancel():
                batch.append(entry)
                weight += entry.weight
                self._now = max(self._now, clock)
                flow.clock = clock + entry.weight / entry.share
                if entry.caller is not None:
                    self._clocks[entry.caller] = flow.clock
            if flow.entries:
                heapq.heapreplace(group.heap, (flow.clock, next(self._order), flow))
            else:
                heapq.heappop(group.heap)
                del group.flows[flow.caller]
        self._tidy()
        return batch, late

    def discard(self, entry: Entry) -> bool:
        """Take an entry out; False where it was not in any more."""
        with self._changed:
            return bool(self._remove(lambda other: other is entry, [entry.key]))

    def clear(self) -> list[Entry]:
        """Take everything out."""
        with self._changed:
            return self._remove(lambda entry: True)

    def close(self) -> None:
        """Take no more entries; those inside are still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _remove(self, unwanted: Callable[[Entry], bool], keys: Sequence[Hashable] | None = None) -> list[Entry]:
        removed: list[Entry] = []
        for key, group in self._classes.items():
            if keys is not None and key not in keys:
                continue
            for flow in group.flows.values():
                gone = [entry for entry in flow.entries if unwanted(entry)]
                for entry in gone:
                    flow.entries.remove(entry)
                    self._forget(group, entry)
                removed += gone
            if any(not flow.entries for flow in group.flows.values()):
                group.flows = {caller: flow for caller, flow in group.flows.items() if flow.entries}
                group.heap = [item for item in group.heap if item[2].entries]
                heapq.heapify(group.heap)
        self._tidy()
        self._changed.notify_all()
        return removed

    def _forget(self, group: _Class, entry: Entry) -> None:
        group.weight -= entry.weight
        self._weight -= entry.weight
        self._count -= 1

    def _tidy(self) -> None:
        """Drop what is empty, and the clocks of callers that have nothing to catch up with."""
        if any(not group.heap for group in self._classes.values()):
            self._classes = {key: group for key, group in self._classes.items() if group.heap}
        if len(self._clocks) > 2 * self._count + 64:
            self._clocks = {caller: clock for caller, clock in self._clocks.items() if clock > self._now}


def _expire(late: list[Entry]) -> None:
    """Answer what is too late; outside of the lock, for an answer calls back."""
    for entry in late:
        entry.refuse(DeadlineError("the request's time ran out in the queue; allow more, or send fewer at a time"))
