"""Calls that run out of memory, lose their device, or overflow: every row once, as the engine alone answers it."""

import logging
import threading

import numpy as np
import pytest
from support.stand_ins import PATIENCE, Threads
from support.toys import BoxBlurEngine, ToyEngine

from sr_tile.engines.device_runner import DeviceRunner, TileTooLargeError, device_slots
from sr_tile.errors import DeviceError, ModelOutputError, OutOfMemoryError


def runner(engines, limit=8, **keywords):
    return DeviceRunner(device_slots(engines), limit, **keywords)


def batch(rows=8, side=6):
    return np.random.default_rng(rows).random((rows, 3, side, side), np.float32)


def joined(pieces, rows):
    """The output of a batch, whose pieces must hold each row once and in order."""
    pieces = list(pieces)
    assert [row for piece in pieces for row in piece.rows] == list(range(rows))
    return np.concatenate([piece.output_nchw for piece in pieces])


@pytest.mark.parametrize("in_pixels", [False, True])
@pytest.mark.parametrize("fits", [1, 2, 3, 5, 8])
def test_whatever_fits_the_rows_are_those_of_one_call(fits, in_pixels):
    engine = BoxBlurEngine(1, fails=lambda call, shape: shape[0] > fits)
    run = runner(engine, 8 * (36 if in_pixels else 1), in_pixels=in_pixels)
    assert np.array_equal(joined(run.run(run.threads[0], batch()), 8), BoxBlurEngine(1).run(batch()))
    rows = [shape[0] for shape in engine.shapes]
    assert run.limit // (36 if in_pixels else 1) <= fits
    assert engine.rebuilt == len([count for count in rows if count > fits])


def test_a_limit_in_pixels_lets_more_small_tiles_into_a_call():
    engine = ToyEngine()
    run = runner(engine, 4 * 36, in_pixels=True)
    for side in (6, 3, 12):
        joined(run.run(run.threads[0], batch(16, side)), 16)
    assert {shape[2]: shape[0] for shape in engine.shapes} == {6: 4, 3: 16, 12: 1}


def test_a_row_gets_a_second_try_alone_and_then_is_too_large():
    engine = ToyEngine(fails=lambda call, shape: True)
    run = runner(engine, 2)
    with pytest.raises(TileTooLargeError, match="cpu has no room for a tile of 6 x 6 pixels"):
        joined(run.run(run.threads[0], batch(2)), 2)
    assert [shape[0] for shape in engine.shapes] == [2, 1, 1]
    assert engine.rebuilt == 2


def test_a_limit_never_grows_by_a_failure_of_another_thread():
    """Two rows and four fail at once; the news of the four come last, and must not undo those of the two."""

    class Tight(ToyEngine):
        max_concurrency = 2
        meet = threading.Barrier(2)

        def run(self, batch_nchw):
            if len(batch_nchw) > 1:
                self.meet.wait(PATIENCE)
                while len(batch_nchw) == 4 and run.limit != 1:
                    threading.Event().wait(0.001)
                raise OutOfMemoryError("toy: out of memory")
            return super().run(batch_nchw)

    run = runner(Tight(), 4)
    own = run.threads[0]
    two, four = Threads(lambda: joined(run.run(own, batch(2)), 2), lambda: joined(run.run(own, batch(4)), 4)).get()
    assert run.limit == 1
    assert np.array_equal(two, batch(2))
    assert np.array_equal(four, batch(4))


def test_many_threads_at_engines_that_fail_get_their_own_rows():
    lock = threading.Lock()

    class Flaky(BoxBlurEngine):
        """Every fifth call fails, and a session is never started afresh under a call."""

        max_concurrency = 2
        calls = inside = 0

        def run(self, batch_nchw):
            with lock:
                self.calls, self.inside = self.calls + 1, self.inside + 1
                failing = self.calls % 5 == 0 and len(batch_nchw) > 1
            try:
                if failing:
                    raise OutOfMemoryError("toy: out of memory")
                return super().run(batch_nchw)
            finally:
                with lock:
                    self.inside -= 1

        def rebuild(self):
            assert self.inside == 0
            super().rebuild()

    engines = [Flaky(1), Flaky(1)]
    run = runner(engines, recovery=2)
    batches = [[batch(rows) for rows in range(1, 9)] for _ in range(4)]

    def work(own, mine):
        return [joined(run.run(own, pixels), len(pixels)) for pixels in mine]

    results = Threads(
        *[lambda own=own, mine=mine: work(own, mine) for own, mine in zip(run.threads, batches, strict=True)]
    )
    for mine, answers in zip(batches, results.get(), strict=True):
        for pixels, answer in zip(mine, answers, strict=True):
            assert np.array_equal(answer, BoxBlurEngine(1).run(pixels))


def test_memory_that_comes_back_is_used_again_where_that_is_asked_for():
    for recovery, last in ((3, 8), (None, 4)):
        engine = ToyEngine(fails=lambda call, shape: call == 0)
        run = runner(engine, recovery=recovery)
        for _ in range(4):
            joined(run.run(run.threads[0], batch()), 8)
        assert engine.shapes[-1][0] == run.limit == last


class Lost(ToyEngine):
    device = "cuda:1"

    def answer(self, batch_nchw):
        raise DeviceError("cuda:1: fell off the bus")


def test_a_lost_device_is_done_without_and_none_left_is_an_error(caplog):
    lost, good = Lost(), ToyEngine()
    run = runner([lost, good])
    with caplog.at_level(logging.WARNING, "sr_tile"):
        for _ in range(2):
            assert np.array_equal(joined(run.run(run.threads[0], batch()), 8), batch())
    assert len(lost.shapes) == 1
    assert [record.getMessage() for record in caplog.records] == ["cuda:1: fell off the bus; going on with cpu"]
    alone = runner([Lost(), Lost()])
    with pytest.raises(DeviceError, match=r"^cuda:1: fell off the bus$"):
        list(alone.run(alone.threads[0], batch()))


def test_a_lost_device_is_opened_again_ever_more_seldom_until_it_is_there(monkeypatch, caplog):
    class Away(ToyEngine):
        away = True

        def answer(self, batch_nchw):
            if self.away:
                raise DeviceError("cuda:1: fell off the bus")
            return super().answer(batch_nchw)

        def rebuild(self):
            super().rebuild()
            if self.away:
                raise DeviceError("cuda:1: fell off the bus")

    now = [1000.0]
    monkeypatch.setattr("sr_tile.engines.device_runner.time.monotonic", lambda: now[0])
    engine = Away()
    run = runner([engine])
    tries = []
    for now[0] in range(1000, 1200):
        before = engine.rebuilt
        with pytest.raises(DeviceError):
            list(run.run(run.threads[0], batch()))
        assert not run.is_alive()
        if engine.rebuilt > before:
            tries.append(now[0] - 1000)
    assert tries == [5, 15, 35, 75, 155]
    engine.away = False
    now[0] = 1400.0
    assert run.is_alive()
    assert np.array_equal(joined(run.run(run.threads[0], batch()), 8), batch())


def test_a_device_that_is_lost_while_it_gives_memory_back_is_done_without():
    class LostLater(ToyEngine):
        def rebuild(self):
            raise DeviceError("cuda:1: fell off the bus")

    run = runner([LostLater(fails=lambda call, shape: True), ToyEngine()])
    assert np.array_equal(joined(run.run(run.threads[0], batch()), 8), batch())


class Overflowing(ToyEngine):
    """Rows that begin with 1 overflow, those that begin with 2 do so in float32 too."""

    def answer(self, batch_nchw):
        return np.where(batch_nchw[:, :1, :1, :1] >= 1, np.inf, batch_nchw).astype(np.float32)

    def run_exact(self, batch_nchw):
        assert len(batch_nchw) == 1
        return np.where(batch_nchw[:, :1, :1, :1] >= 2, np.nan, batch_nchw).astype(np.float32)


def test_rows_that_overflow_are_run_again_and_those_that_stay_so_are_named():
    pixels = batch()
    pixels[[1, 4], 0, 0, 0], pixels[6, 0, 0, 0], pixels[7, 0, 0, 0] = 1, 2, 1
    run = runner(Overflowing(), 4)
    pieces = list(run.run(run.threads[0], pixels, is_wanted=lambda row: row != 7))
    assert [piece.not_finite for piece in pieces] == [(), (6,)]
    output = joined(pieces, 8)
    assert np.array_equal(output[:6], pixels[:6])
    assert run.redone == 2  # nobody wanted the last


def test_a_model_that_fails_says_for_which_rows_and_the_others_go_on():
    class Failing(ToyEngine):
        def answer(self, batch_nchw):
            if (batch_nchw == 1).any():
                raise ModelOutputError("toy: no")
            return super().answer(batch_nchw)

    pixels = batch()
    pixels[2] = 1
    run = runner(Failing(), 2)
    pieces = list(run.run(run.threads[0], pixels))
    assert [(piece.rows, bool(piece.error)) for piece in pieces] == [
        (range(2), False),
        (range(2, 4), True),
        (range(4, 6), False),
        (range(6, 8), False),
    ]
    assert pieces[1].error.__traceback__ is None


def test_whoever_watches_may_end_it_before_any_call():
    class Ended(Exception):  # noqa: N818
        pass

    def refuse(rows):
        assert rows == 8
        raise Ended

    engine = ToyEngine()
    run = runner(engine)
    with pytest.raises(Ended):
        list(run.run(run.threads[0], batch(), watch=refuse))
    assert not engine.shapes
