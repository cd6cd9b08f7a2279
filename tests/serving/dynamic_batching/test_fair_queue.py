import threading
import time
from collections import Counter

import numpy as np
import pytest
from support.stand_ins import PATIENCE, Threads

from sr_tile.errors import DeadlineError, Overloaded, StoppedError
from sr_tile.serving.dynamic_batching.fair_queue import Entry, FairQueue


def entries(caller, count, **keywords):
    return [Entry((caller, number), None, caller=caller, **keywords) for number in range(count)]


def names(batch):
    return [entry.request for entry in batch]


def drain(queue, most=1):
    queue.close()
    while batch := queue.take(most):
        yield batch


def test_a_caller_alone_is_served_in_order():
    queue = FairQueue()
    queue.put(entries("a", 7))
    assert [names(batch) for batch in drain(queue, 3)] == [
        [("a", 0), ("a", 1), ("a", 2)],
        [("a", 3), ("a", 4), ("a", 5)],
        [("a", 6)],
    ]
    assert len(queue) == 0


def test_a_small_request_is_not_stuck_behind_a_large_one():
    queue = FairQueue()
    queue.put(entries("large", 1000))
    for _ in range(10):
        queue.take(4)
    queue.put(entries("small", 4))
    seen = [names(queue.take(4)) for _ in range(3)]
    assert sum(caller == "small" for batch in seen for caller, _ in batch) == 4


@pytest.mark.parametrize("most", [1, 5, 16])
def test_callers_share_by_weight(most):
    queue = FairQueue()
    queue.put(entries("large tiles", 500, weight=4))
    queue.put(entries("small tiles", 500))
    queue.put(entries("twice", 500, weight=2, share=2.0))
    given = Counter()
    while sum(given.values()) < 900:
        for entry in queue.take(most):
            given[entry.caller] += entry.weight
    assert abs(given["large tiles"] - given["small tiles"]) <= 2 * 4
    assert abs(given["twice"] - 2 * given["small tiles"]) <= 4 * 4


def test_being_away_saves_up_nothing():
    queue = FairQueue()
    queue.put(entries("here", 1000))
    queue.put(entries("away", 1))
    for _ in range(500):
        queue.take(1)
    queue.put(entries("away", 100))
    seen = Counter(queue.take(1)[0].caller for _ in range(40))
    assert abs(seen["here"] - seen["away"]) <= 2


def test_coming_again_and_again_does_not_jump_the_queue():
    queue = FairQueue()
    queue.put(entries("patient", 100))
    queue.put(entries("again", 1))
    seen = Counter()
    for _ in range(40):
        caller = queue.take(1)[0].caller
        seen[caller] += 1
        if caller == "again":
            queue.put(entries("again", 1))
    assert abs(seen["patient"] - seen["again"]) <= 2


def test_batches_hold_one_key_and_no_more_than_their_weight():
    rng = np.random.default_rng(0)
    queue = FairQueue()
    put = [
        Entry(number, int(rng.integers(3)), int(rng.integers(1, 12)), caller=int(rng.integers(20)))
        for number in range(500)
    ]
    queue.put(put)
    taken = []
    for batch in drain(queue, 10):
        assert len({entry.key for entry in batch}) == 1
        assert sum(entry.weight for entry in batch) <= 10 or len(batch) == 1
        taken += batch
    assert sorted(entry.request for entry in taken) == list(range(500))
    for caller in range(20):
        for key in range(3):
            order = [entry.request for entry in taken if entry.caller == caller and entry.key == key]
            assert order == sorted(order)


def test_entries_of_nobody_are_callers_of_their_own():
    queue = FairQueue()
    queue.put([Entry(number, None) for number in range(3)])
    queue.put(entries("a", 3))
    assert sum(entry.caller is None for entry in queue.take(4)) == 3


def test_full_refuses_all_or_nothing():
    queue = FairQueue(3)
    queue.put(entries("a", 2))
    with pytest.raises(Overloaded, match="2 requests of 3"):
        queue.put(entries("b", 2))
    assert len(queue) == 2
    queue.put(entries("b", 1))
    queue.take(1)
    queue.put(entries("b", 1))


def test_what_is_cancelled_leaves_at_once():
    queue = FairQueue(3)
    kept, gone, last = entries("a", 3)
    queue.put([kept, gone, last])
    gone.future.cancel()
    assert queue.discard(gone)
    assert not queue.discard(gone)
    assert len(queue) == 2
    queue.put(entries("b", 1))
    last.future.cancel()  # and one that nobody took out is passed over
    assert [entry.caller for batch in drain(queue) for entry in batch] == ["a", "b"]


def test_what_is_late_is_not_handed_out_and_says_so():
    queue = FairQueue(2)
    late, fine = entries("a", 2)
    late.expires = time.monotonic()
    queue.put([late, fine])
    assert queue.take(5) == [fine]
    with pytest.raises(DeadlineError, match="ran out in the queue"):
        late.future.result(0)


def test_what_is_late_makes_room():
    queue = FairQueue(2)
    late = entries("a", 2, expires=time.monotonic())
    queue.put(late)
    queue.put(entries("b", 2))
    assert len(queue) == 2
    assert all(isinstance(entry.future.exception(0), DeadlineError) for entry in late)


def test_closed_takes_nothing_and_hands_out_the_rest():
    queue = FairQueue()
    queue.put(entries("a", 2))
    queue.close()
    with pytest.raises(StoppedError):
        queue.put(entries("b", 1))
    assert [len(batch) for batch in drain(queue)] == [1, 1]


def test_close_wakes_those_who_wait():
    queue = FairQueue()
    waiting = Threads(*[lambda: queue.take(1)] * 3)
    queue.close()
    assert waiting.get() == [[], [], []]


class Watched(threading.Condition):
    """Counts how often somebody began to wait."""

    def __init__(self):
        super().__init__()
        self.waits = threading.Semaphore(0)

    def wait(self, timeout=None):
        self.waits.release()
        return super().wait(timeout)


def watched_queue():
    queue = FairQueue()
    queue._changed = Watched()
    return queue, queue._changed.waits


def test_a_batch_waits_for_the_callers_of_the_last_one():
    queue, waits = watched_queue()
    queue.put(entries("a", 1))
    taking = Threads(lambda: queue.take(most=8, expected=4, timeout=1000))
    for name in "bcd":
        assert waits.acquire(timeout=PATIENCE)
        queue.put(entries(name, 1))
    (batch,) = taking.get()
    assert [entry.caller for entry in batch] == ["a", "b", "c", "d"]


def test_a_full_batch_waits_for_nobody():
    queue = FairQueue()
    queue.put(entries("a", 4))
    (batch,) = Threads(lambda: queue.take(most=4, expected=100, timeout=1000)).get()
    assert len(batch) == 4


def test_a_caller_that_is_alone_waits_for_nobody():
    queue, waits = watched_queue()
    taking = Threads(lambda: queue.take(most=4, expected=1, timeout=1000))
    assert waits.acquire(timeout=PATIENCE)
    queue.put(entries("a", 1))
    (batch,) = taking.get()
    assert len(batch) == 1


def test_a_timeout_ends():
    queue = FairQueue()
    queue.put(entries("a", 1))
    (batch,) = Threads(lambda: queue.take(most=4, expected=3, timeout=0.01)).get()
    assert len(batch) == 1


def test_closing_ends_the_wait():
    queue, waits = watched_queue()
    queue.put(entries("a", 1))
    taking = Threads(lambda: queue.take(most=4, expected=3, timeout=1000))
    assert waits.acquire(timeout=PATIENCE)
    queue.close()
    assert len(taking.get()[0]) == 1


def test_many_callers_that_come_and_go_leave_nothing_behind():
    queue = FairQueue()
    for number in range(2000):
        queue.put(entries(f"caller {number}", 2))
        queue.take(2)
    assert len(queue._clocks) < 100
    assert not queue._classes
