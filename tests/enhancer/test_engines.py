"""Several engines and devices, threads and processes, and the end."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from support.stand_ins import Threads
from support.toys import ToyEngine, conv_model, identity_model, noise_image

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, DeviceError, ModelLoadError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.planner import Settings


def test_warm_up_survives_a_batch_that_does_not_fit():
    engine = ToyEngine(fails=lambda call, shape: shape[0] > 2)
    enhancer = Enhancer(engine, settings=Settings(tile=64, batch=8), warmup="zeros")
    assert enhancer.plan.batch == 2
    enhancer.warm_up("random", (20, 30))
    assert engine.shapes[-1] == (1, 3, 20, 30)


def test_warm_up_runs_the_batches_that_an_image_will_run():
    engine = ToyEngine()
    enhancer = Enhancer(engine, settings=Settings(tile=64, overlap=0, batch=2))
    for width, batches in ((150, [1, 2]), (128, [2]), (60, [1])):
        del engine.shapes[:]
        enhancer.warm_up("zeros", (64, width))
        warmed = list(engine.shapes)
        assert [shape[0] for shape in warmed] == batches
        del engine.shapes[:]
        enhancer.enhance(noise_image(64, width))
        assert set(engine.shapes) == set(warmed)


def test_a_closed_enhancer_says_so(tmp_path):
    enhancer = Enhancer(identity_model(tmp_path / "m.onnx"))
    enhancer.close()
    with pytest.raises(ModelLoadError, match="was closed"):
        enhancer.enhance(noise_image(4, 4))


def test_several_devices_give_what_one_gives(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    image = noise_image(150, 170)
    settings = Settings(tile=48, overlap=16, batch=2)
    with (
        Enhancer(path, device="cpu", settings=settings) as one,
        Enhancer(path, device="cpu,cpu", settings=settings) as two,
    ):
        assert len(two.engines) == 2
        two.warm_up("zeros")
        assert np.array_equal(one.enhance(image), two.enhance(image))
        assert {stage.name: stage.workers for stage in two.stats.stages}["infer"] == 2
    with pytest.raises(ModelLoadError, match="closed"):
        two.engines[1].run(np.zeros((1, 3, 8, 8), np.float32))


def test_engines_that_are_passed_in_share_the_plan_of_the_smallest_and_stay_open():
    class Sized(ToyEngine):
        def __init__(self, free):
            super().__init__()
            self.free = free

        def memory_free(self):
            return self.free

        def close(self):
            raise AssertionError("closed")

    large, small = Sized(2**34), Sized(2**20)
    image = noise_image(300, 300)
    with Enhancer([large, small]) as both, Enhancer([small]) as alone:
        assert both.plan.batch == alone.plan.batch
        assert np.array_equal(both.enhance(image), image)


def test_a_list_of_devices_is_opened_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = conv_model(tmp_path / "m.onnx")
    closed = []
    monkeypatch.setattr(OnnxEngine, "close", lambda self: closed.append(self.device))
    with pytest.raises(DeviceError, match="cuda"):
        Enhancer(path, device="cpu,cuda:0")
    assert closed == ["cpu"]
    with pytest.raises(ArgumentError, match="auto"):
        Enhancer(path, device="cpu,auto")
    with pytest.raises(ArgumentError, match="not known"):
        Enhancer(path, device="cpu,")


def test_a_scale_beside_a_model_or_an_engine_is_its_own():
    assert Enhancer(ToyEngine(), scale=ToyEngine().spec.scale).scale == ToyEngine().spec.scale
    for model in ("x2", ToyEngine()):
        with pytest.raises(ArgumentError, match="leave out the scale"):
            Enhancer(model, scale=7)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_enhancer_that_was_used_and_forked_says_so_and_does_not_hang():
    code = (
        "import os, sys, warnings, numpy as np, sr_tile\n"
        "warnings.simplefilter('ignore')\n"
        "enhancer = sr_tile.Enhancer('x2', device='cpu')\n"
        "image = np.zeros((20, 20, 3), np.uint8)\n"
        "enhancer.enhance(image)\n"
        "if os.fork() == 0:\n"
        "    try: enhancer.enhance(image)\n"
        "    except sr_tile.SrTileError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "enhancer.enhance(image)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "after a fork" in done.stdout


def test_threads_share_an_enhancer_and_its_figures_are_of_all_of_them(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    images = [[noise_image(40 + thread, 50 + number, seed=thread) for number in range(5)] for thread in range(8)]
    with Enhancer(path, device="cpu") as enhancer:
        expected = [[enhancer.enhance(image) for image in mine] for mine in images]
        enhancer.reset_stats()
        results = Threads(*[lambda mine=mine: [enhancer.enhance(image) for image in mine] for mine in images]).get()
        stats = enhancer.stats
    for mine, alone in zip(results, expected, strict=True):
        for result, one in zip(mine, alone, strict=True):
            assert np.array_equal(result, one)
    assert stats.images == 40
    assert stats.megapixels == pytest.approx(sum(math.prod(image.shape[:2]) for mine in images for image in mine) / 1e6)
    counts = {stage.name: (stage.items_in, stage.items_out) for stage in stats.stages}
    assert counts["decode"][0] == counts["encode"][1] == 40
    assert counts["infer"][0] == counts["tile"][1]
    assert 0 <= stats.engine_idle < 1


def test_a_thread_that_stops_early_ends_no_call_of_another():
    class Cancelled(ToyEngine):
        """Knows whether its calls were ended."""

        cancelled = 0

        def cancel(self):
            self.cancelled += 1

    engine = Cancelled()
    enhancer = Enhancer(engine)
    jobs = [ImageJob("image", lambda: ArraySource(noise_image(40, 40)), ArraySink)] * 3
    first, second = enhancer.run(jobs), enhancer.run(jobs)
    next(first)
    next(second)
    first.close()
    assert not engine.cancelled
    assert len(list(second)) == 2
    begun = enhancer.run(jobs)
    next(begun)
    with pytest.raises(ArgumentError, match="under way"):
        enhancer.reset_stats()
    begun.close()
    assert engine.cancelled
