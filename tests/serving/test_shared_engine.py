import gc
import threading
import weakref

import numpy as np
import pytest
from support.stand_ins import PATIENCE, Threads
from support.toys import BoxBlurEngine, ToyEngine, conv_model, noise_image, repeat

from sr_tile.engines.base import Engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.precision import agrees
from sr_tile.errors import ArgumentError, DeadlineError, DeviceError, ModelOutputError, Overloaded, StoppedError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan
from sr_tile.serving import SharedEngine
from sr_tile.serving.shared_engine import RECOVERY


def plan(tile=16, overlap=4, halo=1, batch=4, **keywords):
    return Plan((tile, tile), overlap, halo, 1, batch=batch, **keywords)


def outcomes(engine, plan, image):
    job = ImageJob("image", lambda: ArraySource(image), ArraySink)
    return Pipeline(engine, plan, decoders=1, encoders=1).run([job])


def enhance(engine, plan, image):
    (outcome,) = outcomes(engine, plan, image)
    if outcome.error:
        raise outcome.error
    return outcome.sink.pixels_hwc


def serve(shared, image, **keywords):
    with shared.client(**keywords) as client:
        return enhance(client, shared.plan, image)


class GateEngine(BoxBlurEngine):
    """Waits at each call until the test lets it through; only one thread may call it."""

    def __init__(self, radius=1, **keywords):
        super().__init__(radius, **keywords)
        self.entered, self.opened = threading.Semaphore(0), threading.Event()
        self.threads = set()

    def answer(self, batch_nchw):
        self.threads.add(threading.current_thread())
        self.entered.release()
        assert self.opened.wait(PATIENCE)
        return super().answer(batch_nchw)


def mixed_images(count=24):
    rng = np.random.default_rng(0)
    kinds = [(int(c), (np.uint8, np.uint16, np.float32)[k]) for c, k in rng.integers((1, 0), (5, 3), (count, 2))]
    sizes = rng.integers(1, 50, (count, 2))
    return [
        noise_image(int(h), int(w), channels, dtype, seed)
        for seed, ((h, w), (channels, dtype)) in enumerate(zip(sizes, kinds, strict=True))
    ]


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


def test_a_batch_that_does_not_fit_is_halved_and_nobody_notices():
    images = [noise_image(40, 40, seed=seed) for seed in range(6)]
    engine = BoxBlurEngine(1, fails=lambda call, shape: shape[0] > 1)
    with SharedEngine(engine, plan(batch=8)) as shared:
        results = Threads(*[lambda image=image: serve(shared, image) for image in images]).get()
        assert shared.plan == plan(batch=8)
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result, enhance(BoxBlurEngine(1), plan(), image))
    assert 1 <= engine.rebuilt <= 4


def test_memory_that_comes_back_is_used_again():
    engine = BoxBlurEngine(1, fails=lambda call, shape: call == 0)
    with SharedEngine(engine, plan(batch=4)) as shared, shared.client() as client:
        for _ in range(2 * RECOVERY):
            client.run(np.zeros((4, 3, 16, 16), np.float32))
    rows = [shape[0] for shape in engine.shapes]
    assert rows[:3] == [4, 2, 2]
    assert rows[-1] == 4


def test_a_tile_that_does_not_fit_makes_its_image_start_again_and_later_images_begin_smaller():
    image = noise_image(100, 90)
    engine = BoxBlurEngine(1, fails=lambda call, shape: max(shape[2:]) > 32)
    with SharedEngine(engine, plan(64, 8, 2)) as shared:
        assert np.array_equal(serve(shared, image), enhance(BoxBlurEngine(1), plan(32, 8, 2), image))
        assert shared.plan.tile == (32, 32)


class PoisonedEngine(BoxBlurEngine):
    """Fails where a tile is all white, and returns NaN where one is all black, but in exact arithmetic."""

    def answer(self, batch_nchw):
        if (batch_nchw == 1).all(axis=(1, 2, 3)).any():
            raise ModelOutputError("toy: poison")
        answers = super().answer(batch_nchw)
        answers[(batch_nchw == 0).all(axis=(1, 2, 3))] = np.nan
        return answers

    def run_exact(self, batch_nchw):
        return super().answer(batch_nchw)


def test_errors_reach_their_own_client_alone():
    images = [noise_image(40, 40, seed=seed) for seed in range(6)]
    images[2][:] = 255
    images[4][:] = 0
    with SharedEngine(PoisonedEngine(1), plan()) as shared:
        served = Threads(*[lambda image=image: serve(shared, image) for image in images]).join()
    assert isinstance(served.errors[2], ModelOutputError)
    assert [error for number, error in enumerate(served.errors) if number != 2] == [None] * 5
    for number, image in enumerate(images):
        if number != 2:
            assert np.array_equal(served.results[number], enhance(BoxBlurEngine(1), plan(), image))


def test_tiles_and_failures_wait_for_no_garbage_collector():
    kept = []

    class Noting(PoisonedEngine):
        def answer(self, batch_nchw):
            kept.append(weakref.ref(batch_nchw))
            answers = super().answer(batch_nchw)
            kept.append(weakref.ref(answers))
            return answers

    good, bad = noise_image(40, 40), np.full((40, 40, 3), 255, np.uint8)
    gc.disable()
    try:
        with SharedEngine(Noting(1), plan()) as shared:
            for image in (good, bad):
                Threads(lambda image=image: serve(shared, image)).join()
        for _ in range(1000):  # threads that end give back their last
            if not any(reference() is not None for reference in kept):
                break
            threading.Event().wait(0.01)
        assert kept
        assert not any(reference() is not None for reference in kept)
    finally:
        gc.enable()


def test_nan_without_exact_arithmetic_fails_its_image_alone():
    class NanEngine(ToyEngine):
        def answer(self, batch_nchw):
            return np.where((batch_nchw == 0).all(axis=(1, 2, 3), keepdims=True), np.nan, batch_nchw).astype(np.float32)

    images = [np.zeros((20, 20, 3), np.uint8), noise_image(20, 20)]
    with SharedEngine(NanEngine(), plan()) as shared:
        served = Threads(*[lambda image=image: serve(shared, image) for image in images]).join()
    assert "no numbers" in str(served.errors[0])
    assert np.array_equal(served.results[1], images[1])


def test_a_defect_of_the_engine_reaches_the_client_and_the_next_is_served():
    class Defect(ToyEngine):
        def answer(self, batch_nchw):
            if (batch_nchw == 0).all():
                raise ZeroDivisionError("defect")
            return super().answer(batch_nchw)

    with SharedEngine(Defect(), plan()) as shared:
        with pytest.raises(ZeroDivisionError, match="defect"):
            serve(shared, np.zeros((20, 20, 3), np.uint8))
        image = noise_image(20, 20)
        assert np.array_equal(serve(shared, image), image)


def test_closing_the_iterator_takes_the_tiles_out_of_the_queue():
    engine = GateEngine()
    with SharedEngine(engine, plan()) as shared:
        holding = Threads(lambda: serve(shared, noise_image(16, 16)))
        assert engine.entered.acquire(timeout=PATIENCE)
        with shared.client() as client:
            jobs = (
                ImageJob("image", lambda seed=seed: ArraySource(noise_image(80, 80, seed=seed)), ArraySink)
                for seed in range(3)
            )
            pipeline = Pipeline(client, shared.plan).run(jobs)
            stopping = Threads(lambda: next(pipeline, None))
            while not shared.batcher.depth:
                threading.Event().wait(0.001)
            client.close()  # from another thread than that of the pipeline
            with pytest.raises(StoppedError, match="cancelled"):
                stopping.get()
            assert shared.batcher.depth == 0
            pipeline.close()
        engine.opened.set()
        holding.get()
    assert sum(shape[0] for shape in engine.shapes) == 1


def test_a_pipeline_that_is_closed_does_not_wait_for_its_tiles():
    engine = GateEngine()
    first = noise_image(16, 16)
    with SharedEngine(engine, plan()) as shared, shared.client() as client:
        engine.opened.set()
        jobs = iter(
            [ImageJob("first", lambda: ArraySource(first), ArraySink)]
            + [ImageJob("later", lambda: ArraySource(noise_image(80, 80)), ArraySink)] * 3
        )
        pipeline = Pipeline(client, shared.plan).run(jobs)
        assert np.array_equal(next(pipeline).sink.pixels_hwc, enhance(BoxBlurEngine(1), plan(), first))
        before = threading.active_count()
        engine.opened.clear()
        closing = Threads(pipeline.close)
        while shared.batcher.depth:
            threading.Event().wait(0.001)
        engine.opened.set()  # what runs in the engine does finish
        closing.get()
        assert threading.active_count() < before
        image = noise_image(30, 30)  # and the client serves on
        assert np.array_equal(enhance(client, shared.plan, image), enhance(BoxBlurEngine(1), plan(), image))


def test_time_that_runs_out_ends_the_pipeline():
    engine = GateEngine()
    with SharedEngine(engine, plan()) as shared:
        with pytest.raises(DeadlineError, match="slow image"):
            serve(shared, noise_image(80, 80), name="slow image", timeout=0.05)
        assert shared.batcher.depth == 0
        engine.opened.set()
    assert shared.clients == 0


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


def test_stop_lets_clients_finish_and_takes_no_more():
    engine = GateEngine()
    image = noise_image(80, 80)
    shared = SharedEngine(engine, plan()).start()
    running = Threads(lambda: serve(shared, image))
    assert engine.entered.acquire(timeout=PATIENCE)
    stopping = Threads(shared.stop)
    while True:
        try:
            shared.client().close()
        except StoppedError:
            break
    engine.opened.set()
    stopping.get()
    assert np.array_equal(running.get()[0], enhance(BoxBlurEngine(1), plan(), image))


@pytest.mark.parametrize("keywords", [{"drain": False}, {"timeout": 0.05}])
def test_stop_without_waiting_ends_all_clients(keywords):
    engine = GateEngine()
    shared = SharedEngine(engine, plan()).start()
    running = Threads(*[lambda seed=seed: serve(shared, noise_image(80, 80, seed=seed)) for seed in range(4)])
    assert engine.entered.acquire(timeout=PATIENCE)
    stopping = Threads(lambda: shared.stop(**keywords))
    if "timeout" not in keywords:
        while shared.batcher.running:
            threading.Event().wait(0.001)
        engine.opened.set()
    stopping.get()
    running.join()
    assert all(isinstance(error, StoppedError) for error in running.errors)
    engine.opened.set()
    with shared:  # and it starts again
        image = noise_image(20, 20)
        assert np.array_equal(serve(shared, image), enhance(BoxBlurEngine(1), plan(), image))


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


def test_a_device_that_is_gone_is_done_without():
    class Gone(ToyEngine):
        def answer(self, batch_nchw):
            raise DeviceError("cuda:1: fell off the bus")

    engines = [Gone(), ToyEngine()]
    images = [noise_image(80, 80, seed=seed) for seed in range(6)]
    with SharedEngine(engines, plan()) as shared:
        results = Threads(*[lambda image=image: serve(shared, image) for image in images]).get()
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(image, result)
    assert len(engines[0].shapes) <= 1
    with SharedEngine(Gone(), plan()) as shared, pytest.raises(DeviceError, match="fell off"):
        serve(shared, images[0])


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
