import random
import threading
import time

import pytest

from sr_tile.pipeline.clock import StageClock
from sr_tile.pipeline.queues import BoundedQueue, Cancelled, OrderedQueue, start_thread


def test_items_come_in_order_and_a_closed_queue_is_read_to_its_end():
    queue = BoundedQueue(2)
    got = []
    thread = start_thread("reader", lambda: got.extend(queue), pytest.fail)
    for item in range(100):
        queue.put(item)
    queue.close()
    thread.join()
    assert got == list(range(100))


def test_put_waits_for_room():
    queue = BoundedQueue(2)
    done = threading.Event()
    thread = start_thread("writer", lambda: ([queue.put(i) for i in range(3)], done.set()), pytest.fail)
    assert not done.wait(0.05)
    assert next(iter(queue)) == 0
    assert done.wait(5)
    thread.join()


def test_a_timeout_is_told_and_nothing_is_lost():
    queue = BoundedQueue(2)
    waited = threading.Event()
    got = []
    thread = start_thread("reader", lambda: got.extend(queue.items(0.01, waited.set)), pytest.fail)
    for item in range(3):
        assert waited.wait(5)
        waited.clear()
        queue.put(item)
    queue.close()
    thread.join(5)
    assert got == [0, 1, 2]


@pytest.mark.parametrize("waiting", ["put", "get"])
def test_cancel_wakes_whoever_waits(waiting):
    queue = BoundedQueue(1)
    ended = []

    def work():
        try:
            if waiting == "put":
                queue.put(1)
                queue.put(2)
            else:
                list(queue)
        except Cancelled:
            ended.append(True)
            raise

    thread = start_thread("worker", work, pytest.fail)
    queue.cancel()
    thread.join(5)
    assert ended == [True]


def test_errors_of_a_thread_are_handed_over():
    errors = []
    start_thread("worker", lambda: 1 / 0, errors.append).join()
    assert isinstance(errors[0], ZeroDivisionError)


def test_the_clock_adds_up():
    clock = StageClock("stage", workers=2)
    assert clock.report().items_in == 0
    assert clock.idle == 0
    for _ in range(3):
        with clock.working(taken=1, made=2):
            pass
    report = clock.report()
    assert (report.items_in, report.items_out) == (3, 6)
    assert report.shortest <= report.mean <= report.longest <= report.busy
    assert 0 <= clock.idle <= 1


def test_an_ordered_queue_gives_numbers_in_their_order_whoever_is_faster():
    queue = OrderedQueue(3)
    numbers = iter(range(200))
    lock = threading.Lock()
    rng = random.Random(0)

    def work():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(rng.random() * 1e-3)
            queue.put(number, number)

    threads = [start_thread("writer", work, pytest.fail) for _ in range(3)]
    closer = start_thread("closer", lambda: ([thread.join() for thread in threads], queue.close()), pytest.fail)
    assert list(queue) == list(range(200))
    closer.join()


def test_an_ordered_queue_holds_back_what_is_far_ahead():
    queue = OrderedQueue(2)
    done = threading.Event()
    queue.put(1, "b")
    thread = start_thread("writer", lambda: (queue.put(2, "c"), done.set()), pytest.fail)
    assert not done.wait(0.05)
    queue.put(0, "a")  # the next in turn always finds room
    items = iter(queue)
    assert next(items) == "a"
    assert done.wait(5)
    thread.join()
    queue.cancel()
    with pytest.raises(Cancelled):
        next(items)
    with pytest.raises(Cancelled):
        queue.put(3, "d")
