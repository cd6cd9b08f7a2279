import threading

import numpy as np
import pytest
from support.pipelines import plan, run
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.images import ImageInfo
from sr_tile.images.arrays import ArraySink
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline import attempt
from sr_tile.pipeline.thread_pool import ThreadPool, threads_beside
from sr_tile.planner import Settings
from sr_tile.system import cpu


class PixelEngine(ToyEngine):
    """The identity on a device of its own that takes and gives pixels, which nobody may write on."""

    uses_host_memory = False
    takes_pixels = True

    def answer(self, batch_nchw):
        output = super().answer(batch_nchw)
        output.flags.writeable = batch_nchw.dtype == np.float32
        return output


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_each_item_is_done_once_before_it_returns(threads, count):
    made, seen = ThreadPool(threads), []
    made.for_each(seen.append, range(count))
    made.close()
    assert sorted(seen) == list(range(count))


def test_an_error_comes_when_all_have_ended():
    made, ended = ThreadPool(3), []

    def task(item):
        if item == 1:
            raise ValueError("one")
        ended.append(item)

    with pytest.raises(ValueError, match="one"):
        made.for_each(task, range(3))
    assert sorted(ended) == [0, 2]
    made.for_each(ended.append, [5])
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sr-tile pixels")]


def test_all_threads_of_the_machine_help_where_no_engine_computes_on_it(monkeypatch):
    monkeypatch.setattr(cpu, "allowed_threads", lambda: 16)
    assert threads_beside([PixelEngine(), PixelEngine()]) == 16
    assert threads_beside([PixelEngine(), ToyEngine()]) == 1
    monkeypatch.setattr(cpu, "allowed_threads", lambda: None)
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 64)
    assert threads_beside([PixelEngine()]) == 64


def test_several_files_are_read_and_written_at_a_time_where_a_gpu_waits_for_them(monkeypatch):
    monkeypatch.setattr(cpu, "allowed_threads", lambda: 16)

    def workers(engine, **settings):
        with Enhancer(engine, **settings) as enhancer:
            return enhancer._pipeline.decoders, enhancer._pipeline.encoders

    assert workers(PixelEngine()) == (8, 8)
    assert workers(PixelEngine(), encoders=3) == (8, 3)
    assert workers(PixelEngine(), settings=Settings(mem_limit=2**34)) == (2, 2)
    assert workers(ToyEngine()) == (2, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize(("scale", "overlap", "halo"), [(1, 8, 2), (2, 8, 4), (2, 20, 1)])
def test_results_are_the_same_however_many_threads_help(monkeypatch, dtype, batch, scale, overlap, halo):
    rng, seen = np.random.default_rng(0), []
    images = [rng.integers(1, 256, shape).astype(dtype) for shape in ((61, 83, 3), (30, 20, 4), (9, 70, 1))]
    spec = ModelSpec("toy", scale=scale, multiple=1, halo=halo)
    for threads in (1, 2, 5):

        def beside(engines, threads=threads):
            seen.append([engine.uses_host_memory for engine in engines])
            return threads

        monkeypatch.setattr(attempt, "threads_beside", beside)
        results = run(images, PixelEngine(spec), plan(32, overlap, halo, batch=batch))
        for image, result in zip(images, results, strict=True):
            colours = slice(0, min(3, image.shape[2]))
            assert (result[..., colours] == image[..., colours].repeat(scale, 0).repeat(scale, 1)).all()
            assert result.dtype == dtype
    assert seen == [[False]] * 3


def test_rows_that_were_made_where_they_stand_are_not_copied():
    sink = ArraySink(ImageInfo(4, 2, 1, np.dtype(np.uint8)))
    made = sink.room(0, 3)
    made[:] = 7
    sink.write_rows(made)
    sink.write_rows(np.full((1, 2, 1), 9, np.uint8))
    assert sink.pixels_hwc[..., 0].tolist() == [[7, 7]] * 3 + [[9, 9]]
