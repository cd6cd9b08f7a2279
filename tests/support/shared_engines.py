"""Images through engines that several callers share."""

import threading

import numpy as np
from support.stand_ins import PATIENCE
from support.toys import BoxBlurEngine, noise_image

from sr_tile.errors import ModelOutputError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan


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
