import itertools

import numpy as np
import pytest
from support.toys import ToyEngine, noise_image, repeat

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import GeometryError, ImageReadError
from sr_tile.images.arrays import ArraySource
from sr_tile.images.rows import CroppingSink, SkippingSource
from sr_tile.models import zoo
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan
from sr_tile.tiling.grid import Axis, TileGrid
from sr_tile.tiling.strips import Strip, edge, split


class ShadingEngine(ToyEngine):
    """Darkens each tile towards its lower right corner, so that tiles disagree and every weight counts."""

    def answer(self, batch_nchw):
        height, width = batch_nchw.shape[2:]
        return super().answer(
            batch_nchw * np.outer(np.linspace(1, 0.5, height), np.linspace(1, 0.7, width)).astype("f4")
        )


class Rows:
    """A sink that keeps what it gets."""

    def __init__(self, info):
        self.dtype, self.blocks = info.dtype, []

    def write_rows(self, rows_hwc):
        self.blocks.append(rows_hwc.copy())

    def close(self):
        pass

    def abort(self):
        pass


class Part:
    """One strip of an array as a job."""

    def __init__(self, image, cut):
        self.image, self.cut = image, cut

    def job(self):
        return ImageJob("part", self.open_source, self.open_sink, self.strip)

    def open_source(self):
        self.source = SkippingSource(ArraySource(self.image))
        return self.source

    def strip(self, grid):
        self.part = self.cut(grid)
        self.source.skip = self.part.reads[0]
        return self.part.tiles

    def open_sink(self, info):
        self.rows = Rows(info)
        return CroppingSink(self.rows, self.part.dropped * (info.height // self.image.shape[0]))


def whole_and_strips(image, engine, plan, most, **keywords):
    """The image in one go, and joined from strips that were computed apart."""
    pipeline = Pipeline(engine, plan, **keywords)

    def do(job):
        (outcome,) = pipeline.run([job])
        assert outcome.error is None
        return outcome

    everything = Part(image, lambda grid: Strip(grid, 0, len(grid.y.starts)))
    do(everything.job())
    grid = everything.part.grid
    parts = [
        Part(image, lambda grid, i=i: list(split(grid, grid.rows, most))[i]) for i in range(-(-len(grid.rows) // most))
    ]
    for part in reversed(parts):  # in any order
        do(part.job())
    plain = Rows
    sinks = []
    do(ImageJob("whole", lambda: ArraySource(image), lambda info: sinks.append(plain(info)) or sinks[-1]))
    joined = np.concatenate([block for part in parts for block in part.rows.blocks])
    return np.concatenate(sinks[0].blocks), joined, parts


AXES = [(8, 0, 0, 1), (9, 4, 1, 1), (16, 6, 0, 1), (16, 12, 2, 2), (24, 18, 6, 1), (16, 13, 0, 1), (32, 8, 4, 8)]


@pytest.mark.parametrize(("tile", "overlap", "halo", "multiple"), AXES)
def test_rows_of_strips_partition_the_image_and_no_tile_is_missing(tile, overlap, halo, multiple):
    for height, most in itertools.product((1, 7, 16, 33, 64, 100, 129), (1, 2, 3, 5)):
        grid = TileGrid(Axis(height, tile, overlap, halo, multiple), Axis(8, 8, 0, 0))
        strips = list(split(grid, grid.rows, most))
        assert [row for strip in strips for row in range(*strip.rows)] == list(range(height))
        assert [row for strip in strips for row in range(strip.first, strip.stop)] == list(grid.rows)
        for strip in strips:
            assert strip.stop - strip.first <= most
            top, bottom = strip.rows
            touching = [row for row in grid.rows if grid.y.support(row)[0] < bottom and grid.y.support(row)[1] > top]
            assert touching == list(strip.tiles)
            assert strip.reads[0] == grid.y.starts[touching[0]]
            assert strip.dropped == top - edge(grid, touching[0])


@pytest.mark.parametrize(("tile", "overlap", "halo", "multiple"), AXES)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_strips_joined_are_the_whole_image(tile, overlap, halo, multiple, scale):
    engine = ShadingEngine(ModelSpec("shading", scale=scale, multiple=multiple))
    for number, (height, most) in enumerate(((5, 2), (40, 1), (71, 2), (71, 5))):
        image = noise_image(height, 29, 1 + number % 4, (np.uint8, np.uint16)[number % 2], number)
        plan = Plan((tile, tile), overlap, halo, multiple, batch=1 + number % 3, equalised=number % 2 == 1)
        whole, joined, parts = whole_and_strips(image, engine, plan, most)
        assert np.array_equal(whole, joined), (height, most)
        assert len(parts) == -(-len(parts[0].part.grid.y.starts) // most)


def test_a_strip_computes_no_more_than_one_row_of_tiles_again():
    engine = ToyEngine(ModelSpec("toy", scale=2, multiple=1))
    image = noise_image(100, 20)
    _, joined, parts = whole_and_strips(image, engine, Plan((16, 32), 4, 1, 1), 2)
    assert np.array_equal(joined, repeat(image, 2))
    assert [len(part.part.tiles) - (part.part.stop - part.part.first) for part in parts] == [0] + [1] * (len(parts) - 1)


def test_strips_of_the_bundled_model_are_the_whole_image():
    engine = OnnxEngine(zoo.find("x2"), "cpu")
    image = noise_image(230, 90)
    whole, joined, parts = whole_and_strips(image, engine, Plan((64, 64), 16, 4, 1, batch=3), 2)
    assert len(parts) == 3
    assert np.array_equal(whole, joined)
    engine.close()


def test_a_source_that_ends_while_rows_are_skipped_says_so():
    class Short(ArraySource):
        def read_rows(self, count):
            return super().read_rows(count)[:0]

    image = noise_image(100, 8)
    part = Part(image, lambda grid: Strip(grid, 3, 4))
    part.open_source = lambda: setattr(part, "source", SkippingSource(Short(image))) or part.source
    (outcome,) = Pipeline(ToyEngine(), Plan((16, 16), 4, 1, 1)).run([part.job()])
    assert isinstance(outcome.error, ImageReadError)


def test_what_is_no_strip_is_refused():
    grid = TileGrid(Axis(100, 16, 4, 1), Axis(8, 8, 0, 0))
    for first, stop in ((0, 0), (3, 2), (0, 99), (-1, 2)):
        with pytest.raises(GeometryError, match="no strip"):
            Strip(grid, first, stop)
