"""Several engines, and several threads at one engine: the same picture, whoever made which tile."""

import logging
import threading

import numpy as np
import pytest
from support.pipelines import array_job, plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image

from sr_tile.errors import ArgumentError, DeviceError, ModelOutputError, OutOfMemoryError
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.pipeline import Pipeline

IMAGES = [noise_image(h, w, c, seed=h) for h, w, c in ((70, 50, 3), (9, 100, 1), (40, 40, 4), (64, 90, 3))]
PLAN = plan(32, 12, 2, batch=2)  # tiles overlap in a ramp, so that sums depend on their order


def alone():
    return run(IMAGES, BoxBlurEngine(5), PLAN)


class Meeting(BoxBlurEngine):
    """Its first call waits until those of all others have begun; each later one takes its own time."""

    def __init__(self, barrier, seconds, **keywords):
        super().__init__(5, **keywords)
        self.barrier, self.seconds = barrier, seconds

    def run(self, batch_nchw):
        if not self.shapes:
            self.barrier.wait(10)
        threading.Event().wait(self.seconds)
        return super().run(batch_nchw)


def meeting(count, **keywords):
    barrier = threading.Barrier(count)
    return [Meeting(barrier, 0.002 * number, **keywords) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_engines_of_any_number_and_speed_work_at_once_and_give_the_same_bits(count):
    engines = meeting(count)
    for result, expected in zip(run(IMAGES, engines, PLAN), alone(), strict=True):
        assert np.array_equal(result, expected)
    assert all(engine.shapes for engine in engines)


def test_a_slow_engine_is_not_overtaken_without_bound():
    slow, fast = meeting(2)
    ahead, seen = threading.Event(), []

    def wait_for_the_other(batch_nchw):
        if not seen:
            ahead.wait(0.2)  # time enough to do everything else
            seen.append(len(fast.shapes))
        return batch_nchw

    slow.answer, fast.answer = wait_for_the_other, lambda batch_nchw: batch_nchw
    image = noise_image(32 * 12, 32 * 12)
    assert np.array_equal(run([image], [slow, fast], plan(32))[0], image)
    assert seen[0] <= 4  # of 144: one before the slow one's, as many as outputs may wait, one in hand


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("which", [0, 1])
def test_out_of_memory_at_one_engine_makes_batches_smaller_for_all(failing, which):
    engines = meeting(2)
    engines[which]._fails = lambda call, shape: call == failing
    pipeline = Pipeline(engines, plan(32, 12, 2, batch=2))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, IMAGES))}
    for index, expected in enumerate(alone()):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, expected)
    reached = len(engines[which].shapes) > failing
    assert engines[which].rebuilt == reached
    assert engines[1 - which].rebuilt == 0
    assert pipeline.plan.batch == (1 if reached else 2)


def test_a_tile_that_one_of_them_cannot_hold_becomes_smaller_for_all(caplog):
    image = noise_image(150, 140)
    engines = meeting(3)
    engines[1]._fails = lambda call, shape: max(shape[2:]) > 32
    engines[1].device = "cuda:1"
    pipeline = Pipeline(engines, plan(64, 12, 5))  # the receptive field fits the halo: no trace of the tile's size
    with caplog.at_level(logging.WARNING, "sr_tile"):
        (outcome,) = pipeline.run([array_job(image)])
    assert np.array_equal(outcome.sink.pixels_hwc, run([image], BoxBlurEngine(5), plan(32, 12, 5))[0])
    assert pipeline.plan.tile == (32, 32)
    assert "cuda:1 has no room for a tile" in caplog.text


class Dying(Meeting):
    """Its device is lost at a call."""

    device = "cuda:1"
    dies_at = 0

    def answer(self, batch_nchw):
        if len(self.shapes) > self.dies_at:
            raise DeviceError("device cuda:1: it is gone")
        return super().answer(batch_nchw)


@pytest.mark.parametrize("dies_at", [0, 1, 3])
def test_the_batch_of_a_lost_device_goes_to_the_others(dies_at, caplog):
    barrier = threading.Barrier(2)
    dying, other = Dying(barrier, 0), Meeting(barrier, 0)
    dying.dies_at = dies_at
    pipeline = Pipeline([dying, other], PLAN)
    with caplog.at_level(logging.WARNING, "sr_tile"):
        outcomes = {o.index: o for o in pipeline.run(map(array_job, IMAGES * 3))}
    for index, expected in enumerate(alone() * 3):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, expected)
    calls = len(dying.shapes)
    assert calls == dies_at + 1
    assert "going on with cpu" in caplog.text
    list(pipeline.run(map(array_job, IMAGES)))
    assert len(dying.shapes) == calls  # not asked again


def test_no_device_left_is_an_error():
    barrier = threading.Barrier(2)
    with pytest.raises(DeviceError, match="it is gone"):
        run(IMAGES, [Dying(barrier, 0), Dying(barrier, 0)], PLAN)


@pytest.mark.parametrize("how", ["close", "interrupt"])
def test_stopping_early_stops_every_engine_s_threads(how):
    class Blocked(ToyEngine):
        def answer(self, batch_nchw):
            threading.Event().wait(0.05)
            return super().answer(batch_nchw)

    before = set(threading.enumerate())
    engines = [ToyEngine(), Blocked(), Blocked()]
    outcomes = Pipeline(engines, plan(32)).run(array_job(noise_image(64, 64)) for _ in range(1000))
    next(outcomes)
    if how == "close":
        outcomes.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            outcomes.throw(KeyboardInterrupt)
    left = set(threading.enumerate()) - before
    assert {thread.name for thread in left} <= {"sr-tile feed"}
    for thread in left:
        thread.join(5)


class Overflowing(ToyEngine):
    """Overflows for white tiles; in float32 it does not."""

    def answer(self, batch_nchw):
        batch = batch_nchw.copy()
        batch[(batch_nchw == 1).all(axis=(1, 2, 3))] = np.inf
        return super().answer(batch)

    def run_exact(self, batch_nchw):
        return batch_nchw.copy()


def test_tiles_that_overflow_are_redone_whichever_engine_ran_them():
    images = [noise_image(64, 64, seed=seed) for seed in range(6)]
    for image in images[::2]:
        image[:32, 32:] = 255
    engines = [Overflowing(), Overflowing(), Overflowing()]
    pipeline = Pipeline(engines, plan(32, batch=3))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, images))}
    for index, image in enumerate(images):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, image)
    assert pipeline.stats().redone == 3


class Lanes(BoxBlurEngine):
    """Takes two calls at a time; notes how many were inside, and refuses what must happen alone."""

    max_concurrency = 2

    def __init__(self, **keywords):
        super().__init__(5, **keywords)
        self.inside, self.most, self.lock = 0, 0, threading.Lock()
        self.both = threading.Barrier(2)
        self.calls = 0

    def run(self, batch_nchw):
        with self.lock:
            self.calls += 1
            call = self.calls
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            if call <= 2:
                self.both.wait(10)
            return super().run(batch_nchw)
        finally:
            with self.lock:
                self.inside -= 1

    def rebuild(self):
        assert self.inside == 0
        super().rebuild()


def test_an_engine_with_two_lanes_is_called_by_two_threads_and_no_more():
    engine = Lanes()
    pipeline = Pipeline(engine, PLAN)
    outcomes = {o.index: o for o in pipeline.run(map(array_job, IMAGES))}
    for index, expected in enumerate(alone()):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, expected)
    assert engine.most == 2  # the first two calls met inside
    assert {stage.name: stage.workers for stage in pipeline.stats().stages}["infer"] == 2


def test_a_session_is_rebuilt_only_when_no_thread_is_inside():
    engine = Lanes(fails=lambda call, shape: shape[0] > 1)
    pipeline = Pipeline(engine, plan(32, 12, 2, batch=4))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, IMAGES))}
    for index, expected in enumerate(alone()):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, expected)
    assert pipeline.plan.batch == 1
    assert engine.rebuilt >= 2


def test_memory_that_another_thread_s_call_holds_does_not_make_tiles_smaller():
    """A single row fails whenever two calls are inside at once: alone it fits, so no image starts again."""

    class Tight(Lanes):
        def answer(self, batch_nchw):
            if self.calls <= 2 or self.inside > 1:
                raise OutOfMemoryError("toy: two at a time do not fit")
            return super().answer(batch_nchw)

    engine = Tight()
    pipeline = Pipeline(engine, plan(32, 12, 2))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, IMAGES))}
    assert pipeline.plan.tile == (32, 32)
    assert engine.rebuilt == 2  # once for each of the two, and then one call at a time
    for index, expected in enumerate(alone()):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, expected)


def test_a_model_that_fails_at_one_engine_fails_its_images_alone():
    class Failing(ToyEngine):
        def answer(self, batch_nchw):
            if (batch_nchw == 1).any():
                raise ModelOutputError("toy: no")
            return super().answer(batch_nchw)

    images = [np.full((40, 40, 3), value, np.uint8) for value in (10, 255, 20)]
    outcomes = {o.index: o for o in Pipeline([Failing(), Failing()], plan(32)).run(map(array_job, images))}
    assert [bool(outcomes[index].error) for index in range(3)] == [False, True, False]


def test_engines_of_different_models_are_refused():
    with pytest.raises(ArgumentError, match="different models, toy and other"):
        Pipeline([ToyEngine(), ToyEngine(ModelSpec("other", scale=2, multiple=1))], PLAN)
    with pytest.raises(ArgumentError, match="empty"):
        Pipeline([], PLAN)
