"""However a batcher ends, every request gets an answer."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest
from support.batchers import Poisoned, value
from support.stand_ins import PATIENCE, Gate, Threads, row

from sr_tile.errors import Overloaded, StoppedError
from sr_tile.serving import DynamicBatcher


def test_stop_answers_what_waits():
    gate = Gate()
    host = DynamicBatcher(gate, max_batch_size=2).start()
    futures = [host.submit(row(number)) for number in range(5)]
    gate.wait_for_call()
    stopping = Threads(host.stop)
    gate.open()
    stopping.get()
    assert [value(future.result(0)) for future in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(StoppedError):
        host.predict(row(0))


def test_stopping_twice_at_once_answers_what_waits_too():
    gate = Gate()
    host = DynamicBatcher(gate).start()
    futures = [host.submit(row(0))]
    gate.wait_for_call()
    futures.append(host.submit(row(1)))
    stopping = Threads(host.stop, host.stop)
    while host.running:
        threading.Event().wait(0.001)
    with host:  # a new start need not wait for that
        others = [host.submit(row(2))]
        gate.open()
        stopping.get()
    assert [value(future.result(0)) for future in futures + others] == [0, 2, 4]


def test_stop_without_draining_fails_what_waits():
    gate = Gate()
    host = DynamicBatcher(gate, max_batch_size=2).start()
    first = host.submit(row(0))
    gate.wait_for_call()
    others = [host.submit(row(number)) for number in range(5)]
    stopping = Threads(lambda: host.stop(drain=False))
    for future in others:
        with pytest.raises(StoppedError):
            future.result(PATIENCE)
    gate.open()
    stopping.get()
    assert value(first.result(0)) == 0


def test_stop_gives_up_on_a_model_that_hangs_and_starts_afresh():
    hanging, fine = Gate(), Gate(is_open=True)
    models = [hanging]
    host = DynamicBatcher(lambda batch: models[-1](batch)).start()
    stuck = host.submit(row(0))
    hanging.wait_for_call()
    waiting = host.submit(row(1))
    host.stop(timeout=0.05)
    for future in (stuck, waiting):
        with pytest.raises(StoppedError):
            future.result(0)
    models.append(fine)
    with host:
        assert value(host.predict(row(2), timeout=PATIENCE)) == 4
        hanging.open()
        assert value(host.predict(row(3), timeout=PATIENCE)) == 6
    assert hanging.batches == [[0]]


def test_start_and_stop_may_be_repeated():
    host = DynamicBatcher(Gate(is_open=True))
    with pytest.raises(StoppedError, match="start it"):
        host.predict(row(0))
    host.stop()
    before = set(threading.enumerate())
    for number in range(3):
        assert host.start() is host.start()
        assert host.running
        assert len(set(threading.enumerate()) - before) == 1
        assert value(host.predict(row(number))) == 2 * number
        host.stop()
        host.stop()
        assert not host.running
    assert not set(threading.enumerate()) - before


def test_stop_under_load_resolves_every_future():
    for drain in (True, False):
        host = DynamicBatcher(Poisoned(is_open=True), max_batch_size=8, max_queue=50).start()
        begun = threading.Barrier(9)
        seen: list[Future] = []
        enough, pause = threading.Event(), threading.Event()

        def client(seed, host=host, begun=begun, seen=seen, enough=enough, pause=pause):
            rng = np.random.default_rng(seed)
            begun.wait(PATIENCE)
            while True:
                try:
                    seen.append(host.submit(row(rng.integers(-1, 9))))
                except Overloaded:
                    seen[-1].cancel()
                    pause.wait(0.001)
                except StoppedError:
                    return
                if len(seen) > 500:
                    enough.set()

        clients = Threads(*[lambda seed=seed: client(seed) for seed in range(8)])
        begun.wait(PATIENCE)
        assert enough.wait(PATIENCE)
        host.stop(drain=drain)
        clients.get()
        assert all(future.done() for future in seen)
