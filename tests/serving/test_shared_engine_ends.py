"""One engine for many callers: clients that end early, and the end of all."""

import threading

import numpy as np
import pytest
from support.shared_engines import GateEngine, enhance, plan, serve
from support.stand_ins import PATIENCE, Threads
from support.toys import BoxBlurEngine, noise_image

from sr_tile.errors import DeadlineError, StoppedError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.serving import SharedEngine


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
