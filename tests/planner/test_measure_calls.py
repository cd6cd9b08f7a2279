"""What calls take, measured and remembered."""

import json
import time

import pytest
from support.planning import SHAPES, HungryEngine, spec
from support.toys import ToyEngine

from sr_tile.planner.measure_calls import measure, remembered
from sr_tile.system.cache import recall, remember


def test_measuring_finds_the_price_of_a_pixel(tmp_path):
    engine = HungryEngine(per_pixel=1234)
    for remeasure in (False, True):  # a used session tells the same
        costs = measure(engine, SHAPES, 1e12, remeasure=remeasure, folder=tmp_path)
        assert costs.bytes_per_pixel == pytest.approx(1234)
        assert costs.largest == 4 * 256 * 256


def test_what_a_call_gave_back_when_it_ended_is_counted_too(tmp_path):
    class Passing(HungryEngine):
        def answer(self, batch_nchw):
            super().answer(batch_nchw)
            time.sleep(0.1)
            taken, self.used = self.used, 0
            assert taken
            return ToyEngine.answer(self, batch_nchw)

    assert measure(Passing(per_pixel=777), SHAPES[:1], 1e12, folder=tmp_path).bytes_per_pixel == pytest.approx(777)


def test_a_price_is_never_less_than_input_and_output(tmp_path):
    assert measure(ToyEngine(spec()), SHAPES, 1e12, folder=tmp_path).bytes_per_pixel >= 4 * 3 * (1 + 4)


def test_what_was_measured_is_remembered_by_engine_and_measured_once(tmp_path):
    engine = HungryEngine()
    first = measure(engine, SHAPES[:2], 1e12, folder=tmp_path)
    calls = len(engine.shapes)
    assert measure(engine, SHAPES[:2], 1e12, folder=tmp_path).points == first.points
    assert remembered(engine, SHAPES, tmp_path).points == first.points
    assert len(engine.shapes) == calls
    more = measure(engine, SHAPES, 1e12, folder=tmp_path)  # goes on where the last one ended
    assert set(engine.shapes[calls:]) == {(4, 3, 256, 256)}
    assert more.points[:2] == first.points
    engine.identity = "another"
    assert remembered(engine, SHAPES, tmp_path) is None


@pytest.mark.parametrize("text", ["{broken", "[]", '{"points": [[1, 2]]}', '{"points": [[1, 128, 128, -1, 5]]}'])
def test_a_broken_cache_is_measured_again(tmp_path, text):
    engine = HungryEngine()
    measure(engine, SHAPES, 1e12, folder=tmp_path)
    for path in tmp_path.iterdir():
        remember(path, text)
    assert measure(engine, SHAPES, 1e12, folder=tmp_path).bytes_per_pixel == pytest.approx(1000)


def test_measuring_stops_before_what_does_not_fit(tmp_path):
    engine = HungryEngine(per_pixel=1000)
    costs = measure(engine, SHAPES, 1000 * 256 * 256, folder=tmp_path)
    assert costs.largest == 256 * 256
    assert (4, 3, 256, 256) not in engine.shapes
    full = HungryEngine(per_pixel=1000, free=1000 * 128 * 128)
    assert measure(full, SHAPES, 1e12, remeasure=True, folder=tmp_path).largest == 128 * 128
    assert measure(HungryEngine(free=1), SHAPES, 1e12, remeasure=True, folder=tmp_path) is None


@pytest.mark.parametrize(
    "point",
    ["[1, 8, 8, 1e999, 1]", "[1, 8, 8, 1e-320, 1]", "[1, 8, 8, 1, NaN]", "[1e999, 8, 8, 1, 1]", "[0, 8, 8, 1, 1]", "3",
     '["1", [], 8, 1, 1]', "[1, 8, 8, null, 1]", "[" * 100_000],
)  # fmt: skip
def test_a_damaged_cache_of_costs_is_ignored_and_written_anew(tmp_path, point):
    engine = ToyEngine()
    shapes = [(1, 8, 8)]
    measure(engine, shapes, 1e12, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    sound = recall(path, json.loads)
    remember(path, f'{{"points": [[1, 9, 9, 1.0, 1.0], {point}]}}')
    assert remembered(engine, shapes, tmp_path) is None
    costs = measure(engine, shapes, 1e12, folder=tmp_path)
    assert costs is not None
    assert [point[:3] for point in recall(path, json.loads)["points"]] == [p[:3] for p in sound["points"]]
