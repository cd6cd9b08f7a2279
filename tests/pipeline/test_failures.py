"""Memory that runs out, broken images and numbers that are none."""

import time
from dataclasses import replace

import numpy as np
import pytest
from support.pipelines import array_job, plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image

from sr_tile.errors import ImageReadError, ImageWriteError, ModelOutputError, OutOfMemoryError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline


def test_out_of_memory_at_every_call_ends_in_the_same_picture():
    image = noise_image(75, 61)
    expected = run([image], BoxBlurEngine(2), plan(32, 8, 2, batch=4))[0]
    calls = len((engine := BoxBlurEngine(2), run([image], engine, plan(32, 8, 2, batch=4)))[0].shapes)
    for failing in range(calls):
        engine = BoxBlurEngine(2, fails=lambda call, shape, failing=failing: call == failing)
        assert np.array_equal(run([image], engine, plan(32, 8, 2, batch=4))[0], expected), failing
        assert engine.rebuilt == 1


def test_out_of_memory_at_every_tile_of_single_rows_starts_again_with_half_the_tile():
    image, other = noise_image(150, 140), noise_image(20, 90, seed=1)
    half = run([image, other], BoxBlurEngine(2), plan(32, 8, 2))
    tiles = len((engine := BoxBlurEngine(2), run([image, other], engine, plan(64, 8, 2)))[0].shapes)
    for failing in range(tiles):
        engine = BoxBlurEngine(2, fails=lambda call, shape, failing=failing: call >= failing and max(shape[2:]) > 32)
        pipeline = Pipeline(engine, plan(64, 8, 2))
        outcomes = {o.index: o for o in pipeline.run(map(array_job, [image, other]))}
        assert pipeline.plan.tile == (32, 32)
        for index in (0, 1):  # the receptive field fits the halo, so the size of the tile leaves no trace
            assert np.array_equal(outcomes[index].sink.pixels_hwc, half[index]), failing


def test_no_job_is_lost_when_all_start_again():
    def jobs():
        for seed in range(12):
            time.sleep(0.02)  # so that one is being fetched while the others are stopped
            yield array_job(noise_image(100, 90, seed=seed))

    engine = ToyEngine(fails=lambda call, shape: max(shape[2:]) > 32)
    outcomes = {outcome.index: outcome for outcome in Pipeline(engine, plan(64, 8, 2)).run(jobs())}
    assert set(outcomes) == set(range(12))
    for index, outcome in outcomes.items():
        assert np.array_equal(outcome.sink.pixels_hwc, noise_image(100, 90, seed=index))


def test_a_device_with_a_fixed_limit_gets_what_fits():
    image = noise_image(100, 100)
    engine = BoxBlurEngine(2, fails=lambda call, shape: shape[0] * shape[2] * shape[3] > 2500)
    result = run([image], engine, plan(64, 8, 2, batch=8))[0]
    assert np.array_equal(result, run([image], BoxBlurEngine(2), plan(100, 8, 2))[0])


def test_no_memory_at_all_is_one_clear_error():
    engine = ToyEngine(fails=lambda call, shape: True)
    with pytest.raises(OutOfMemoryError, match="cannot become smaller"):
        run([noise_image(100, 100)], engine, plan(64, 8, 2, batch=2))


class BrokenSource(ArraySource):
    """Fails at its second strip."""

    def read_rows(self, count):
        if self._row:
            raise ImageReadError("broken.png: truncated")
        return super().read_rows(count)


class BrokenSink(ArraySink):
    """Fails at its second block, and counts how often it was aborted."""

    aborted = 0

    def write_rows(self, rows_hwc):
        if self._row:
            raise ImageWriteError("full: no room")
        super().write_rows(rows_hwc)

    def abort(self):
        self.aborted += 1


@pytest.mark.parametrize("where", ["open", "read", "sink", "write"])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_one_bad_image_never_stops_or_changes_the_others(where, position):
    images = [noise_image(100, 60, seed=seed) for seed in range(5)]
    jobs = [array_job(image, str(index)) for index, image in enumerate(images)]

    def refuse(*_):
        raise ImageReadError("bad.png: no")

    jobs[position] = {
        "open": ImageJob("bad", refuse, ArraySink),
        "read": ImageJob("bad", lambda: BrokenSource(images[0]), ArraySink),
        "sink": ImageJob("bad", lambda: ArraySource(images[0]), refuse),
        "write": ImageJob("bad", lambda: ArraySource(images[0]), BrokenSink),
    }[where]
    outcomes = {outcome.index: outcome for outcome in Pipeline(ToyEngine(), plan(32, 8, 2, batch=4)).run(jobs)}
    assert set(outcomes) == set(range(5))
    for index, image in enumerate(images):
        if index == position:
            assert outcomes[index].error
            assert where != "write" or outcomes[index].sink.aborted
        else:
            assert outcomes[index].error is None
            assert np.array_equal(outcomes[index].sink.pixels_hwc, image)


class NanEngine(ToyEngine):
    """Answers NaN where a tile holds pure white."""

    def answer(self, batch_nchw):
        batch = batch_nchw.copy()
        batch[(batch_nchw == 1).all(axis=(1, 2, 3))] = np.nan
        return super().answer(batch)


def test_nan_fails_its_image_alone_and_says_where():
    good, bad = noise_image(64, 64), noise_image(64, 64, seed=1)
    bad[32:, :32] = 255
    outcomes = {o.index: o for o in Pipeline(NanEngine(), plan(32, batch=8)).run(map(array_job, [good, bad, good]))}
    assert "y = 32, x = 0" in str(outcomes[1].error)
    assert np.array_equal(outcomes[0].sink.pixels_hwc, good)
    assert np.array_equal(outcomes[2].sink.pixels_hwc, good)


class HalfEngine(NanEngine):
    """Has an answer in float32 too, which fails for tiles with a black corner."""

    def run_exact(self, batch_nchw):
        assert batch_nchw.shape[0] == 1
        return batch_nchw * (np.nan if batch_nchw[0, 0, 0, 0] == 0 else 1)


def test_a_tile_that_overflows_is_redone_alone_and_counted():
    good, redone = noise_image(64, 64), noise_image(64, 64, seed=1)
    redone[32:, :32] = 255
    pipeline = Pipeline(HalfEngine(), plan(32, batch=8))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, [good, redone, good]))}
    for index, image in enumerate((good, redone, good)):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, image)
    assert pipeline.stats().redone == 1


def test_a_tile_that_overflows_in_float32_too_fails_its_image_alone():
    class Hopeless(HalfEngine):
        def run_exact(self, batch_nchw):
            return batch_nchw * np.nan

    class Unaided(HalfEngine):
        def run_exact(self, batch_nchw):
            return None

    class Failing(HalfEngine):
        def run_exact(self, batch_nchw):
            raise ModelOutputError("toy: no")

    good, bad = noise_image(64, 64), noise_image(64, 64, seed=1)
    bad[:32, 32:] = 255
    for kind in (Hopeless, Unaided, Failing):
        pipeline = Pipeline(kind(), plan(32, batch=8))
        outcomes = {o.index: o for o in pipeline.run(map(array_job, [good, bad, good]))}
        assert "y = 0, x = 32" in str(outcomes[1].error)
        assert np.array_equal(outcomes[0].sink.pixels_hwc, good)
        assert np.array_equal(outcomes[2].sink.pixels_hwc, good)
        assert pipeline.stats().redone == 0


def test_an_image_that_is_too_wide_for_the_memory_is_named():
    chosen = replace(plan(32, 8, 2), strip_budget=1)
    (outcome,) = Pipeline(BoxBlurEngine(2), chosen).run([replace(array_job(noise_image(20, 90)), name="wide.png")])
    assert isinstance(outcome.error, OutOfMemoryError)
    assert str(outcome.error).startswith("wide.png: an image 90 pixels wide")
