"""Engines and models for tests of the planner."""

import math

from support.toys import ToyEngine

from sr_tile.errors import OutOfMemoryError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import choose_tile_and_batch
from sr_tile.planner.costs import Costs, Point

GIB = 2**30


class HungryEngine(ToyEngine):
    """Takes a known number of bytes for each pixel, and keeps what it took, as an arena does."""

    def __init__(self, per_pixel=1000, free=8 * GIB, device="cuda:0", **keywords):
        super().__init__(**keywords)
        self.device, self.per_pixel, self.free, self.used = device, per_pixel, free, 0
        self.uses_host_memory = device == "cpu"

    def answer(self, batch_nchw):
        rows, _, height, width = batch_nchw.shape
        self.used = max(self.used, self.per_pixel * rows * height * width)
        if self.used > self.free:
            raise OutOfMemoryError("hungry")
        return super().answer(batch_nchw)

    def rebuild(self):
        self.used = 0

    def memory_free(self):
        return self.free

    def memory_used(self):
        return self.used


def spec(**keywords):
    return ModelSpec("toy", **{"scale": 2, "multiple": 1, **keywords})


SHAPES = [(1, 128, 128), (1, 256, 256), (4, 256, 256)]


def costs_of(formula, per_pixel=1000.0):
    """Costs as if they had been measured, without noise."""
    shapes = [*SHAPES, (1, 512, 512), (1, 1024, 1024), (4, 1024, 1024)]
    pixels = [math.prod(shape) for shape in shapes]
    return Costs([Point(*shape, formula(n), per_pixel * n) for shape, n in zip(shapes, pixels, strict=True)])


LOCAL = spec(halo=10, tile=512)


def measured(monkeypatch, formula, per_pixel=1000.0):
    monkeypatch.setattr(choose_tile_and_batch, "remembered", lambda engine, shapes: costs_of(formula, per_pixel))
