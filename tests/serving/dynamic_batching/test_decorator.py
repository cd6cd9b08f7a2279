"""`@batching`: a class whose calls meet in batches."""

import threading

import pytest
from support.batchers import run, value
from support.stand_ins import PATIENCE, Threads, row

from sr_tile.errors import ArgumentError
from sr_tile.serving import batching


@batching(max_batch_size=8, max_wait_ms=1)
class Scaled:
    def __init__(self, factor, offset=0):
        self.factor, self.offset = factor, offset

    def predict_batch(self, batch):
        return batch * self.factor + self.offset


def test_a_decorated_class_has_a_host():
    with Scaled.host(3, offset=1) as host:
        assert value(host.predict(row(2))) == 7
        assert value(run(host.apredict(row(3)))) == 10
    assert value(Scaled(2).predict_batch(row(1))) == 2  # and is what it was


def test_a_model_for_each_device_and_workers():
    made, threads = [], set()
    together = threading.Barrier(4)

    @batching(devices=("cpu:0", "cpu:1"), workers=2, max_batch_size=1)
    class Model:
        def __init__(self, device):
            made.append(device)

        def predict_batch(self, batch):
            threads.add(threading.current_thread())
            together.wait(PATIENCE)
            return batch

    with Model.host() as host:
        Threads(*[lambda number=number: host.predict(row(number)) for number in range(4)]).get()
    assert made == ["cpu:0", "cpu:1"]
    assert len(threads) == 4


def test_a_class_without_a_model_is_refused():
    with pytest.raises(ArgumentError, match="predict_batch"):
        batching()(object)
    with pytest.raises(ArgumentError, match="workers"):
        batching(workers=0)
