"""One engine for many callers: an error reaches whom it concerns."""

import gc
import threading
import weakref

import numpy as np
import pytest
from support.shared_engines import PoisonedEngine, enhance, plan, serve
from support.stand_ins import Threads
from support.toys import BoxBlurEngine, ToyEngine, noise_image

from sr_tile.errors import DeviceError, ModelOutputError
from sr_tile.serving import SharedEngine
from sr_tile.serving.shared_engine import RECOVERY


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
