"""Tiles of many callers on one engine: who gets which pixels, and in which batches."""

import threading

import numpy as np
import pytest
from support.shared_engines import GateEngine, PoisonedEngine, enhance, mixed_images, plan, serve
from support.stand_ins import PATIENCE, Threads
from support.toys import BoxBlurEngine, ToyEngine, conv_model, noise_image, repeat

from sr_tile.engines.base import Engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.precision import agrees
from sr_tile.errors import ArgumentError, Overloaded, StoppedError
from sr_tile.models.spec import ModelSpec
from sr_tile.serving import SharedEngine


@pytest.mark.parametrize("scale", [1, 2])
def test_many_clients_get_the_pixels_of_an_image_alone(scale):
    images = mixed_images()
    spec = ModelSpec("blur", scale=scale, multiple=1)
    with SharedEngine(GateEngine(spec=spec), plan()) as shared:
        shared.engines[0].opened.set()
        results = Threads(*[lambda image=image: serve(shared, image) for image in images]).get()
        assert shared.clients == 0
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result, enhance(BoxBlurEngine(1, spec=spec), plan(batch=1), image))
    assert len(shared.engines[0].threads) == 1
    assert max(n * h * w for n, _, h, w in shared.engines[0].shapes) <= 4 * 16 * 16


def test_a_real_network_answers_the_same_in_any_batch(tmp_path):
    engine = OnnxEngine(conv_model(tmp_path / "net.onnx"), "cpu")
    images = [noise_image(30 + seed % 3, 40, seed=seed) for seed in range(12)]
    alone = [enhance(engine, plan(batch=1), image) for image in images]
    with SharedEngine(engine, plan(batch=8)) as shared:
        results = Threads(*[lambda image=image: serve(shared, image) for image in images]).get()
        assert shared.batcher.counts.calls < shared.batcher.counts.accepted
    for one, other in zip(alone, results, strict=True):
        assert np.array_equal(one, other)


def test_tiles_of_several_clients_share_a_batch():
    engine = GateEngine()
    images = [noise_image(16, 16, seed=seed) for seed in range(5)]
    with SharedEngine(engine, plan()) as shared:
        clients = Threads(*[lambda image=image: serve(shared, image) for image in images])
        assert engine.entered.acquire(timeout=PATIENCE)
        first = engine.shapes[0][0]
        while shared.batcher.depth < 5 - first:
            threading.Event().wait(0.001)
        engine.opened.set()
        clients.get()
    assert sum(shape[0] for shape in engine.shapes) == 5
    assert len(engine.shapes) <= 3


def test_small_tiles_fill_a_batch_by_their_pixels():
    engine = GateEngine()
    images = [noise_image(4, 4, seed=seed) for seed in range(21)]
    with SharedEngine(engine, plan(batch=1)) as shared:
        clients = Threads(*[lambda image=image: serve(shared, image) for image in images])
        assert engine.entered.acquire(timeout=PATIENCE)
        while shared.batcher.depth + engine.shapes[0][0] < 21:
            threading.Event().wait(0.001)
        engine.opened.set()
        clients.get()
    assert engine.shapes[1] == (16, 3, 4, 4)


def test_a_small_image_overtakes_a_large_one():
    engine = GateEngine()
    large, small = noise_image(200, 200), noise_image(12, 12, seed=1)
    with SharedEngine(engine, plan(batch=2)) as shared:
        running = Threads(lambda: serve(shared, large))
        assert engine.entered.acquire(timeout=PATIENCE)
        late = Threads(lambda: serve(shared, small))
        while shared.batcher.counts.accepted < 2 + 1:  # a batch of the large one, and the tile of the small one
            threading.Event().wait(0.001)
        engine.opened.set()
        (result,) = late.get()
        running.get()
    assert np.array_equal(result, enhance(BoxBlurEngine(1), plan(), small))
    assert [shape[2:] for shape in engine.shapes].index((12, 12)) == 1  # before all of the large one that waited


def test_clients_are_bounded():
    with SharedEngine(ToyEngine(), plan(), max_clients=2) as shared:
        first, second = shared.client(), shared.client()
        with pytest.raises(Overloaded, match="2 images"):
            shared.client()
        first.close()
        first.close()
        assert shared.clients == 1
        with shared.client(), second:
            assert shared.clients == 2


def test_a_model_with_a_fixed_batch_is_filled_by_rows():
    engine = GateEngine(spec=ModelSpec("blur", scale=1, multiple=1, fixed_batch=2))
    with SharedEngine(engine, plan(batch=2, fitted=False)) as shared:
        clients = Threads(*[lambda seed=seed: serve(shared, noise_image(5, 5, seed=seed)) for seed in range(5)])
        assert engine.entered.acquire(timeout=PATIENCE)
        while shared.batcher.depth + engine.shapes[0][0] < 5:
            threading.Event().wait(0.001)
        engine.opened.set()
        clients.get()
    assert max(shape[0] for shape in engine.shapes) == 2


def test_several_devices_share_the_work():
    engines = [GateEngine(), GateEngine()]
    images = [noise_image(80, 80, seed=seed) for seed in range(4)]
    with SharedEngine(engines, plan()) as shared:
        clients = Threads(*[lambda image=image: serve(shared, image) for image in images])
        for engine in engines:
            assert engine.entered.acquire(timeout=PATIENCE)
        for engine in engines:
            engine.opened.set()
        results = clients.get()
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result, enhance(BoxBlurEngine(1), plan(), image))


def test_an_engine_with_lanes_is_called_by_as_many_threads():
    engine = GateEngine()
    engine.max_concurrency = 3
    image = noise_image(80, 80)
    with SharedEngine(engine, plan(batch=1)) as shared:
        served = Threads(lambda: serve(shared, image))  # one client keeps all of them busy
        for _ in range(3):
            assert engine.entered.acquire(timeout=PATIENCE)
        engine.opened.set()
        assert np.array_equal(served.get()[0], enhance(BoxBlurEngine(1), plan(), image))
    assert len(engine.threads) == 3


def test_a_client_is_an_engine():
    engine = PoisonedEngine(1, spec=ModelSpec("blur", scale=2, multiple=1))
    with SharedEngine(engine, plan()) as shared, shared.client() as client:
        assert isinstance(client, Engine)
        assert (client.spec, client.device, client.identity) == (engine.spec, "cpu", "toy")
        assert (client.memory_free(), client.memory_used()) == (2**30, 0)
        client.rebuild()
        assert engine.rebuilt == 0  # the device is not this client's
        output = client.run(np.zeros((3, 3, 8, 8), np.float32))
        assert output.shape == (3, 3, 16, 16)
        assert output.flags.writeable
        with pytest.raises(ArgumentError):
            shared.client(share=0)
    with pytest.raises(StoppedError):
        client.run(np.zeros((1, 3, 8, 8), np.float32))


def test_what_cannot_be_shared_is_refused():
    other = ToyEngine(ModelSpec("other", scale=2))
    for engines, message in (([], "engines is empty"), ([ToyEngine(), other], "different models")):
        with pytest.raises(ArgumentError, match=message):
            SharedEngine(engines, plan())
    with pytest.raises(ArgumentError, match="max_clients"):
        SharedEngine(other, plan(), max_clients=0)
    with pytest.raises(StoppedError):
        SharedEngine(other, plan()).client()


def test_figures_are_those_of_the_calls():
    calls = []
    with SharedEngine(ToyEngine(), plan(batch=4), on_call=calls.append) as shared:
        image = noise_image(40, 40)
        assert np.array_equal(serve(shared, image), repeat(image, 1))
    tiles = len(plan().grid(40, 40))
    assert sum(call.requests for call in calls) == tiles
    assert sum(call.weight for call in calls) == tiles * 16 * 16


class Coarse(ToyEngine):
    """Half of everything, and all of it in float32; or nothing but float32 once it was run, as one that decides late."""

    bound, precision, decides = 55.0, "bf16", False

    def answer(self, batch_nchw):
        self.bound = None if self.decides else self.bound
        return super().answer(batch_nchw / 2)

    def run_exact(self, batch_nchw):
        return super().answer(batch_nchw)


def test_a_client_may_want_all_in_float32():
    image = noise_image(40, 30, 3)
    with SharedEngine(Coarse(), plan()) as shared:
        assert np.array_equal(serve(shared, image, exact=True), image)
        with shared.client(exact=True) as client:
            assert (client.precision, client.bound) == ("fp32", None)
        with shared.client() as client:
            assert (client.precision, client.bound) == ("bf16", 55.0)


def test_an_engine_that_finds_nothing_but_float32_agrees_with_itself():
    engine = Coarse()
    engine.decides = True
    with SharedEngine(engine, plan()) as shared, shared.client() as client:
        assert agrees(client, [np.zeros((3, 16, 16), np.float32)])
