"""Requests that meet in batches: each gets its own answer."""

import threading
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
from support.batchers import Poisoned, value
from support.stand_ins import PATIENCE, Gate, Threads, row

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, DeadlineError, ModelOutputError, Overloaded
from sr_tile.serving import DynamicBatcher, ListBatcher


def test_each_gets_its_own_answer():
    rng = np.random.default_rng(0)
    requests = [rng.random((int(rows), 3)) for rows in rng.integers(1, 5, 200)]
    gate = Gate(is_open=True)
    with DynamicBatcher(gate, max_batch_size=16) as host:
        answers = Threads(*[lambda x=x: host.predict(x) for x in requests]).get()
    for request, answer in zip(requests, answers, strict=True):
        assert np.array_equal(answer, request * 2)
    assert max(map(len, gate.batches)) <= 16
    assert host.counts.answered == host.counts.accepted == 200
    assert host.counts.weight == sum(map(len, requests))


def test_an_idle_engine_waits_for_nobody():
    with DynamicBatcher(Gate(is_open=True), max_wait_ms=1e7) as host:
        for number in range(3):  # nor does a caller that is alone
            assert value(host.predict(row(number), timeout=PATIENCE)) == 2 * number


def test_what_came_meanwhile_is_one_batch():
    gate = Gate()
    with DynamicBatcher(gate, max_batch_size=4) as host:
        futures = [host.submit(row(0))]
        gate.wait_for_call()
        futures += [host.submit(row(number)) for number in range(1, 8)]
        assert host.depth == 7
        gate.open()
        assert [value(future.result(PATIENCE)) for future in futures] == [2 * number for number in range(8)]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_32_clients_need_a_twelfth_of_the_calls():
    """With a model whose time per call is fixed, the throughput is the requests per call."""
    gate = Gate()

    def client(host):
        for number in range(20):
            assert value(host.predict(row(number))) == 2 * number

    with DynamicBatcher(gate, max_batch_size=32, max_wait_ms=1000) as host:
        clients = Threads(*[lambda: client(host)] * 32)
        gate.wait_for_call()
        while host.depth + len(gate.batches[0]) < 32:  # all are there
            threading.Event().wait(0.001)
        gate.open()
        clients.get()
    assert len(gate.batches) <= 32 * 20 / 12


def test_a_batch_counts_rows_not_requests():
    gate = Gate()
    with DynamicBatcher(gate, max_batch_size=4) as host:
        futures = [host.submit(row(0))]
        gate.wait_for_call()
        futures += [host.submit(np.full((rows, 2), rows)) for rows in (3, 2, 2, 4)]
        gate.open()
        for future in futures:
            future.result(PATIENCE)
        assert [len(batch) for batch in gate.batches] == [1, 3, 4, 4]
        with pytest.raises(ArgumentError, match="weighs 5, and a batch 4 at most"):
            host.predict(np.zeros((5, 2)))


def test_full_is_refused_at_once():
    gate = Gate()
    with DynamicBatcher(gate, max_queue=2) as host:
        futures = [host.submit(row(0))]
        gate.wait_for_call()
        futures += [host.submit(row(1)), host.submit(row(2))]
        with pytest.raises(Overloaded, match="try again later"):
            host.predict(row(3))
        gate.open()
        assert [value(future.result(PATIENCE)) for future in futures] == [0, 2, 4]
        assert value(host.predict(row(3))) == 6
    assert host.counts.refused == 1
    assert host.counts.accepted == 4


def test_a_bad_request_fails_alone():
    gate = Poisoned()
    with DynamicBatcher(gate) as host:
        first = host.submit(row(0))
        gate.wait_for_call()
        futures = [host.submit(row(number)) for number in (1, -2, 3)]
        gate.open()
        gate.wait_for_call()
        assert value(first.result(PATIENCE)) == 0
        assert gate.batches[1] == [1, -2, 3]  # they did meet
        assert value(futures[0].result(PATIENCE)) == 2
        assert value(futures[2].result(PATIENCE)) == 6
        with pytest.raises(ValueError, match="poison"):
            futures[1].result(PATIENCE)
        assert value(host.predict(row(4))) == 8
    assert host.counts.failed == 1


def test_another_shape_never_meets_the_others():
    gate = Gate()
    with DynamicBatcher(gate) as host:
        host.submit(row(0))
        gate.wait_for_call()
        futures = [host.submit(row(1)), host.submit(np.full((1, 3), 2.0)), host.submit(row(3))]
        gate.open()
        assert [value(future.result(PATIENCE)) for future in futures] == [2, 4, 6]
    assert gate.batches == [[0], [1, 3], [2]]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, ValueError])
def test_a_worker_survives_whatever_its_model_raises(error):
    def model(batch):
        if batch[0, 0] < 0:
            raise error("no")
        return batch

    with DynamicBatcher(model) as host:
        with pytest.raises(error):
            host.predict(row(-1), timeout=PATIENCE)
        assert value(host.predict(row(1), timeout=PATIENCE)) == 1


@pytest.mark.parametrize("broken", [lambda x: x[:0], lambda x: None])
def test_a_model_that_loses_rows_is_found_out(broken):
    with DynamicBatcher(broken) as host, pytest.raises(ModelOutputError, match="rows"):
        host.predict(row(1), timeout=PATIENCE)


def test_a_cancelled_request_leaves_the_queue():
    gate = Gate()
    with DynamicBatcher(gate, max_queue=2) as host:
        host.submit(row(0))
        gate.wait_for_call()
        gone, kept = host.submit(row(1)), host.submit(row(2))
        waiting = Threads(lambda: wait([gone], PATIENCE))
        assert gone.cancel()
        assert host.depth == 1
        assert waiting.get()[0].done == {gone}
        other = host.submit(row(3))
        gate.open()
        assert [value(future.result(PATIENCE)) for future in (kept, other)] == [4, 6]
        with pytest.raises(CancelledError):
            gone.result(0)
    assert gate.batches == [[0], [2, 3]]


def test_a_deadline_ends_the_wait_and_the_work():
    gate = Gate()
    with DynamicBatcher(gate) as host:
        first = host.submit(row(0))
        gate.wait_for_call()
        with pytest.raises(DeadlineError, match=r"within 0\.01 seconds"):
            host.predict(row(1), timeout=0.01)
        late = host.submit(row(2), timeout=0)
        assert host.depth == 1
        gate.open()
        assert value(first.result(PATIENCE)) == 0
        with pytest.raises(DeadlineError):
            late.result(PATIENCE)
    assert gate.batches == [[0]]


def test_a_small_caller_is_served_between_the_rows_of_a_large_one():
    gate = Gate()
    with DynamicBatcher(gate, max_batch_size=4) as host:
        large = host.submit_all([(row(1),)] * 100, caller="large")
        gate.wait_for_call()
        small = host.submit_all([(row(2),)] * 2, caller="small")
        gate.let_through(2)
        for future in small:
            assert value(future.result(PATIENCE)) == 4
        assert sum(future.done() for future in large) <= 8
        gate.open()
        wait(large, PATIENCE)


def test_several_models_run_at_the_same_time():
    gates = [Gate(), Gate()]
    with DynamicBatcher(gates, max_batch_size=1) as host:
        futures = [host.submit(row(number)) for number in range(2)]
        for gate in gates:
            gate.wait_for_call()
        for gate in gates:
            gate.open()
        assert [value(future.result(PATIENCE)) for future in futures] == [0, 2]


def test_calls_are_reported():
    calls = []

    def note(call):
        calls.append(call)
        raise ValueError("a report that fails harms nobody")

    with DynamicBatcher(lambda x: x, on_call=note) as host:
        host.predict(np.zeros((3, 2)), timeout=PATIENCE)
    assert [(call.requests, call.weight, len(call.waited)) for call in calls] == [(1, 3, 1)]
    assert host.counts.calls == 1


@pytest.mark.parametrize("keywords", [{"max_batch_size": 0}, {"max_wait_ms": -1}, {"max_queue": 0}])
def test_numbers_out_of_range_are_refused(keywords):
    with pytest.raises(ArgumentError):
        DynamicBatcher(lambda x: x, **keywords)


def test_the_enhancer_as_a_model():
    from support.toys import ToyEngine, noise_image, repeat

    from sr_tile.models.spec import ModelSpec

    images = [noise_image(10 + number, 30 - number, seed=number) for number in range(12)]
    enhancer = Enhancer(ToyEngine(ModelSpec("toy", scale=2, multiple=1)), batch_size=4)
    with DynamicBatcher(enhancer.enhance_batch, ListBatcher(), max_batch_size=8) as host:
        answers = Threads(*[lambda image=image: host.predict(image) for image in images]).get()
        with pytest.raises(ArgumentError):
            host.predict("no image")
    for image, answer in zip(images, answers, strict=True):
        assert np.array_equal(answer, repeat(image, 2))
