import itertools
import json
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toys import ToyEngine

from sr_tile.errors import ArgumentError, GeometryError, OutOfMemoryError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Plan, Settings, choose_tile_and_batch, make_plan, measure_calls, strip_bytes
from sr_tile.planner.choose_tile_and_batch import MAX_EXTRAPOLATION
from sr_tile.planner.costs import Costs, Point
from sr_tile.planner.explain import reasons
from sr_tile.planner.measure_calls import measure, remembered
from sr_tile.planner.plan import TIE_TOLERANCE
from sr_tile.planner.tiles import is_local, plan_tiles
from sr_tile.system import memory

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


def test_defaults_without_metadata():
    plan = plan_tiles(spec(), Settings())
    assert (plan.tile, plan.overlap, plan.halo) == ((256, 256), 64, 16)


def test_a_tile_that_metadata_make_tiny_is_not_obeyed():
    assert plan_tiles(ModelSpec("m", scale=1, multiple=1, tile=1), Settings()).tile == (32, 32)
    assert plan_tiles(ModelSpec("m", scale=1, multiple=1, tile=1), Settings(tile=1, overlap=0)).tile == (1, 1)


def test_the_models_halo_sets_the_overlap():
    plan = plan_tiles(spec(halo=10, tile=512), Settings())
    assert (plan.tile, plan.overlap, plan.halo) == ((512, 512), 20, 10)
    blended = plan_tiles(spec(halo=10, tile=512, details={"receptive_field": 90}), Settings())
    assert (blended.overlap, blended.halo) == (30, 10)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(tile=256, overlap=64), (256, 64, 16)),
        (Settings(tile=256, overlap=64, halo=32), (256, 64, 32)),
        (Settings(tile=256, overlap=0), (256, 0, 0)),
        (Settings(overlap=10), (256, 10, 2)),
    ],
)
def test_overlap_is_what_two_tiles_share_and_a_quarter_of_it_is_halo(settings, expected):
    plan = plan_tiles(spec(), settings)
    assert (plan.tile[0], plan.overlap, plan.halo) == expected


def test_a_measured_halo_gives_way_to_a_small_overlap_and_an_explicit_one_is_refused():
    assert plan_tiles(spec(halo=40), Settings(overlap=64)).halo == 32
    far = plan_tiles(spec(halo=100, tile=256), Settings())
    assert (far.overlap, far.halo) == (64, 16)
    with pytest.raises(GeometryError, match="halo 40"):
        plan_tiles(spec(), Settings(overlap=64, halo=40)).grid(1000, 1000)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(tile=64, overlap=64), "at most 63"),
        (Settings(tile=64, overlap=100), "at most 63"),
    ],
)
def test_overlap_as_large_as_the_tile_is_refused(settings, words):
    with pytest.raises(GeometryError, match=words):
        plan_tiles(spec(), settings)


def test_tiles_keep_to_the_multiple():
    with pytest.raises(GeometryError, match="use 192 or 256"):
        plan_tiles(spec(multiple=64), Settings(tile=200))
    grid = plan_tiles(spec(multiple=64, halo=16), Settings()).grid(1000, 130)
    assert grid.tile[0] % 64 == grid.tile[1] % 64 == 0
    assert all(start % 64 == 0 for start in grid.y.starts[:-1])


def test_a_fixed_tile_wins(caplog):
    plan = plan_tiles(spec(fixed_tile=(128, 96)), Settings(tile=256))
    assert plan.tile == (128, 96)
    assert not plan.fitted
    assert "ignored" in caplog.text
    assert plan.grid(10, 10).tile == (128, 96)


@pytest.mark.parametrize("name", ["tile", "overlap", "batch", "halo"])
@pytest.mark.parametrize("value", [-1, 1.5, "many", "8"])
def test_settings_refuse_by_name(name, value):
    with pytest.raises(ArgumentError, match=name):
        Settings(**{name: value})


def test_default_redundancy_of_a_12_megapixel_photograph():
    grid = plan_tiles(spec(halo=10, tile=512), Settings()).grid(3000, 4000)
    assert grid.redundancy <= 1.15


SHAPES = [(1, 128, 128), (1, 256, 256), (4, 256, 256)]


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
        path.write_text(text)
    assert measure(engine, SHAPES, 1e12, folder=tmp_path).bytes_per_pixel == pytest.approx(1000)


def test_measuring_stops_before_what_does_not_fit(tmp_path):
    engine = HungryEngine(per_pixel=1000)
    costs = measure(engine, SHAPES, 1000 * 256 * 256, folder=tmp_path)
    assert costs.largest == 256 * 256
    assert (4, 3, 256, 256) not in engine.shapes
    full = HungryEngine(per_pixel=1000, free=1000 * 128 * 128)
    assert measure(full, SHAPES, 1e12, remeasure=True, folder=tmp_path).largest == 128 * 128
    assert measure(HungryEngine(free=1), SHAPES, 1e12, remeasure=True, folder=tmp_path) is None


def costs_of(formula, per_pixel=1000.0):
    """Costs as if they had been measured, without noise."""
    shapes = [*SHAPES, (1, 512, 512), (1, 1024, 1024), (4, 1024, 1024)]
    pixels = [math.prod(shape) for shape in shapes]
    return Costs([Point(*shape, formula(n), per_pixel * n) for shape, n in zip(shapes, pixels, strict=True)])


@pytest.mark.parametrize(
    "formula",
    [
        lambda n: 2e-6 * n,
        lambda n: 0.01 + 2e-6 * n,
        lambda n: n * (1e-6 + 1e-7 * math.log2(n)),
        lambda n: n * (4e-6 - 1e-7 * math.log2(n)),
    ],
)
def test_the_formula_is_found_again(formula):
    costs = costs_of(formula)
    for pixels in (100_000, 400_000, 2_000_000):
        assert costs.seconds(pixels) == pytest.approx(formula(pixels), rel=1e-6)


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=6))
def test_whatever_was_measured_more_pixels_never_take_less_time(seconds):
    shapes = [*SHAPES, (1, 512, 512), (1, 1024, 1024), (4, 1024, 1024)]
    costs = Costs([Point(*shape, time, 1.0) for shape, time in zip(shapes, seconds, strict=False)])
    # Tiles of small pictures lie below what was measured, and large ones beyond it.
    times = [costs.seconds(pixels) for pixels in range(1, MAX_EXTRAPOLATION * costs.largest + 1, 9973)]
    assert times[0] > 0
    assert times == sorted(times)


def test_a_price_that_falls_with_size_is_not_carried_on_to_less_than_nothing():
    most = 4 * 1024 * 1024
    costs = costs_of(lambda n: 1e-9 * n * (1 - math.log2(n) / (math.log2(most) + 1.6)))
    assert costs.seconds(MAX_EXTRAPOLATION * most) > costs.seconds(most) > 0


def test_the_time_of_an_image_is_that_of_its_calls():
    costs = costs_of(lambda n: 0.5 + 1e-6 * n)
    grid = Plan((256, 256), 0, 0, 1).grid(512, 1280)
    assert costs.seconds_of(grid, 4) == pytest.approx(3 * 0.5 + 10 * 256**2 * 1e-6)


LOCAL = spec(halo=10, tile=512)


def measured(monkeypatch, formula, per_pixel=1000.0):
    monkeypatch.setattr(choose_tile_and_batch, "remembered", lambda engine, shapes: costs_of(formula, per_pixel))


def test_a_cache_that_overflows_asks_for_small_tiles_and_dear_calls_for_large_ones(monkeypatch):
    measured(monkeypatch, lambda n: n * (1e-6 * math.log2(n) - 8e-6))
    small = make_plan(ToyEngine(LOCAL), Settings())
    measured(monkeypatch, lambda n: 1 + 1e-6 * n)
    large = make_plan(ToyEngine(LOCAL), Settings())
    assert small.tile == (256, 256)
    assert large.tile == (1024, 1024)
    assert small.overlap == large.overlap == 20


@pytest.mark.parametrize("size", [(3000, 4000), (700, 90), (256, 256), (4000, 3000), (530, 2100)])
def test_no_other_tile_is_faster_by_the_formula_than_the_one_an_image_gets(monkeypatch, size):
    formula = lambda n: 0.02 + n * (1e-6 + 1e-8 * math.log2(n))  # noqa: E731
    measured(monkeypatch, formula)
    plan = make_plan(ToyEngine(LOCAL), Settings())
    chosen = plan.costs.seconds_of(plan.grid(*size), plan.batch)
    for side in plan.sides:
        other = replace(plan, tile=(side, side), sides=()).grid(*size)
        assert chosen <= TIE_TOLERANCE * plan.costs.seconds_of(other, plan.batch)


def test_what_the_user_says_wins_over_what_was_measured(monkeypatch):
    measured(monkeypatch, lambda n: 1 + 1e-6 * n)
    for device in ("cpu", "cuda:0"):
        engine = HungryEngine(spec=LOCAL, device=device)
        plan = make_plan(engine, Settings(tile=300, overlap=50, halo=7, batch=3))
        assert (plan.tile, plan.overlap, plan.halo, plan.batch) == ((300, 300), 50, 7, 3)
        assert plan.grid(3000, 4000).tile == (300, 300)
        assert make_plan(engine, Settings(batch=3)).batch == 3
        assert make_plan(engine, Settings(overlap=40)).overlap == 40


@pytest.mark.parametrize(
    ("details", "halo", "local"),
    [
        ({}, 10, True),
        ({}, None, False),
        ({"receptive_field": 61}, 10, True),
        ({"receptive_field": None}, 96, False),
        ({"receptive_field": None, "seam": 0.5}, 96, False),
        ({"receptive_field": None, "seam": 0.001}, 96, True),
        ({"receptive_field": None, "seam": 0.5, "pooling": "local"}, 96, True),
        ({"receptive_field": 61, "seam": 0.0, "pooling": "global"}, 10, False),
    ],
)
def test_only_a_local_network_may_have_another_tile_than_recommended(monkeypatch, details, halo, local):
    model = spec(halo=halo, tile=256, details=details)
    assert is_local(model) == local
    measured(monkeypatch, lambda n: 1 + 1e-6 * n)
    plan = make_plan(ToyEngine(model), Settings())
    assert (max(plan.grid(3000, 4000).tile) > 256) == local
    assert (plan.overlap, plan.halo) == (plan_tiles(model, Settings()).overlap, plan_tiles(model, Settings()).halo)


def test_a_side_that_gives_up_the_halo_is_no_choice():
    far = plan_tiles(spec(halo=100, tile=512, details={"receptive_field": 201}), Settings())
    assert min(far.sides) == 512
    assert plan_tiles(spec(fixed_tile=(128, 128), halo=4), Settings()).sides == ()
    assert plan_tiles(spec(fixed_batch=2, halo=4), Settings()).sides == ()
    assert plan_tiles(spec(halo=4), Settings(tile=256)).sides == ()


def test_small_work_measures_nothing_and_large_work_does():
    engine = HungryEngine(spec=LOCAL)
    engine.identity = "work"
    for work in (None, 256 * 256, 12_000_000):
        assert make_plan(engine, Settings(), expected_pixels=work).tile == (512, 512)
    assert engine.shapes == []
    make_plan(engine, Settings(), expected_pixels=10**9)
    assert engine.shapes
    calls = len(engine.shapes)
    make_plan(engine, Settings(), expected_pixels=10**9)
    assert len(engine.shapes) == calls


@pytest.mark.parametrize(("halo", "tile"), [(9, 512), (48, 1536), (20, 768)])
def test_on_a_processor_tiles_grow_until_little_is_computed_twice(halo, tile):
    engine = HungryEngine(spec=spec(halo=halo, tile=512), device="cpu", per_pixel=100)
    engine.identity = f"grows-{halo}"
    plan = make_plan(engine, Settings(), expected_pixels=12_000_000)
    assert plan.tile == (tile, tile)
    assert plan.grid(3000, 4000).redundancy <= 1.12
    assert all(rows * height * width <= 4 * 256**2 for rows, _, height, width in engine.shapes)  # only small calls
    calls = len(engine.shapes)
    assert make_plan(engine, Settings(), expected_pixels=12_000_000).tile == plan.tile
    assert len(engine.shapes) == calls
    assert make_plan(engine, Settings(), expected_pixels=1_000_000).tile == (512, 512)


@pytest.mark.parametrize(("free", "tile"), [(6, 512), (14, 768), (24, 1024), (80, 1536)])
def test_on_a_gpu_tiles_grow_within_the_memory_that_a_dear_network_would_take(free, tile):
    """Without a single call: 8192 bytes a pixel, in two calls at a time."""
    engine = HungryEngine(spec=spec(halo=48, tile=512), free=free * GIB)
    engine.identity, engine.max_concurrency = f"gpu of {free}", 2
    for settings in (Settings(), Settings(batch=1)):
        plan = make_plan(engine, settings)
        assert plan.tile == (tile, tile)
        assert 8192 * 2 * plan.batch * math.prod(plan.tile) <= 0.9 * free * GIB
        said = "so large that less is computed twice" if tile > 512 else "nothing was measured: the recommended"
        assert said in reasons(engine.spec, plan, settings)[0]
    assert make_plan(engine, Settings(batch=100)).tile == (512, 512)  # the user's care already
    assert make_plan(engine, Settings(tile=512)).tile == (512, 512)
    assert engine.shapes == []


def test_on_a_small_gpu_a_photograph_pays_for_calls_as_large_as_its_tiles_may_be(monkeypatch):
    ticks = itertools.count()  # each call takes a second: only bytes decide here
    monkeypatch.setattr(measure_calls, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    engine = HungryEngine(spec=spec(halo=56, multiple=4, tile=512), free=7 * GIB, per_pixel=1000)
    engine.identity, engine.max_concurrency = "small gpu", 2
    plan = make_plan(engine, Settings(), expected_pixels=12_000_000)
    assert max(math.prod(shape[2:]) * shape[0] for shape in engine.shapes) == 1024**2
    assert plan.grid(3000, 4000).redundancy < 1.17
    assert math.prod(plan.tile) * plan.batch <= MAX_EXTRAPOLATION * 1024**2
    calls = len(engine.shapes)
    for work in (12_000_000, 100_000, None):  # what is remembered is free
        assert make_plan(engine, Settings(), expected_pixels=work).costs
    assert len(engine.shapes) == calls


def test_tiles_grow_no_further_than_memory_allows(monkeypatch):
    monkeypatch.setattr(memory, "free_ram", lambda: 4 * GIB)
    engine = HungryEngine(spec=spec(halo=48, tile=512), device="cpu", per_pixel=2000)
    engine.identity = "grows within"
    plan = make_plan(engine, Settings(), expected_pixels=12_000_000)
    assert 512 < plan.tile[0] < 1536
    assert 2000 * math.prod(plan.tile) <= 0.9 * 2 * GIB


@pytest.mark.parametrize("free", [4, 8, 16, 24, 100])
def test_tiles_that_grow_leave_room_for_rows(monkeypatch, free):
    """Half of the memory at least: they were counted at the assumed price once, and left less than nothing."""
    monkeypatch.setattr(memory, "free_ram", lambda: free * GIB)
    engine = HungryEngine(spec=spec(halo=48, tile=512), device="cpu", per_pixel=600)
    engine.identity = f"leaves room in {free}"
    plan = make_plan(engine, Settings(), images_in_flight=3, expected_pixels=12_000_000)
    assert plan.tile[0] > 512
    assert plan.strip_budget >= 0.9 * free * GIB / 2 / 3
    plan.grid_for(2000, 6000, 3, 2)


@pytest.mark.parametrize("wish", [{"batch": 1000}, {"batch": 10**6}, {"tile": 100_000}])
def test_more_than_a_picture_needs_leaves_room_for_its_rows(wish):
    engine = HungryEngine(spec=spec(halo=16, tile=512), device="cpu", per_pixel=600)
    plan = make_plan(engine, Settings(**wish), expected_pixels=56 * 40)
    assert plan.grid_for(40, 56, 3, 2).x.length == 56


def test_work_pays_where_it_saves_more_pixels_than_measuring_takes():
    plan = plan_tiles(spec(halo=40, tile=256, details={"receptive_field": 201}), Settings())
    assert plan.grid(3000, 4000).redundancy > 1.5
    assert choose_tile_and_batch.worth_measuring(plan, 12_000_000, 4_000_000)
    assert not choose_tile_and_batch.worth_measuring(plan_tiles(LOCAL, Settings()), 12_000_000, 4_000_000)


def test_a_little_less_memory_changes_nothing(monkeypatch):
    measured(monkeypatch, lambda n: 0.01 + 1e-6 * n)
    plans = [make_plan(HungryEngine(spec=LOCAL, free=int(free)), Settings()) for free in (8e9, 7.9e9, 7.5e9)]
    assert len({(plan.tile, plan.batch, plan.sides) for plan in plans}) == 1


@pytest.mark.parametrize("free", [GIB // 4, GIB, 4 * GIB, 100 * GIB])
@pytest.mark.parametrize("known", [False, True])
def test_a_call_fits_into_the_free_memory_but_for_the_headroom(monkeypatch, free, known):
    if known:
        measured(monkeypatch, lambda n: 0.01 + 1e-6 * n, per_pixel=4000.0)
    engine = HungryEngine(per_pixel=4000, free=free, spec=LOCAL)
    engine.identity = f"hungry-{free}"
    plan = make_plan(engine, Settings())
    assert plan.batch & (plan.batch - 1) == 0
    for size in ((3000, 4000), (500, 9000)):
        assert 4000 * plan.batch * math.prod(plan.grid(*size).tile) <= 0.9 * free


def test_a_tile_that_does_not_fit_is_halved_before_the_first_image():
    engine = HungryEngine(per_pixel=4000, free=4000 * 200 * 200, spec=spec(halo=4))
    engine.identity = "tiny"
    assert make_plan(engine, Settings()).tile == (128, 128)


def test_an_explicit_batch_is_kept_and_a_fixed_one_wins():
    assert make_plan(ToyEngine(spec()), Settings(batch=5)).batch == 5
    assert make_plan(ToyEngine(spec(fixed_batch=3)), Settings(batch=5)).batch == 3


def test_a_memory_limit_that_has_no_room_is_refused_with_the_need():
    engine = HungryEngine(device="cpu", per_pixel=10**6, free=10**15, spec=spec(halo=2))
    engine.identity = "limit"
    with pytest.raises(OutOfMemoryError, match="--mem-limit leaves"):
        make_plan(engine, Settings(mem_limit=memory.process_ram() + 10**7))


def test_wide_images_get_lower_tiles_within_the_budget():
    plan = Plan((512, 512), 20, 10, 1, strip_budget=300e6, equalised=True)
    assert plan.grid_for(1000, 1000, 3, 2).y.tile > 400
    grid = plan.grid_for(5000, 60_000, 3, 2)
    assert strip_bytes(grid, 3, 2) <= 300e6
    assert grid.x.tile > 400  # only the height matters
    with pytest.raises(OutOfMemoryError, match="more memory"):
        plan.grid_for(5000, 10_000_000, 3, 2)


def test_smaller_plans_end_in_an_error():
    plan = Plan((256, 256), 16, 8, 1, batch=4)
    assert plan.smaller().tile == (128, 128)
    smallest = plan.smaller().smaller().smaller()
    assert smallest.tile == (32, 32)
    with pytest.raises(OutOfMemoryError):
        smallest.smaller()
    with pytest.raises(OutOfMemoryError, match="cannot become smaller"):
        Plan((256, 256), 16, 8, 1, fitted=False).smaller()


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
    sound = json.loads(path.read_text())
    path.write_text(f'{{"points": [[1, 9, 9, 1.0, 1.0], {point}]}}')
    assert remembered(engine, shapes, tmp_path) is None
    costs = measure(engine, shapes, 1e12, folder=tmp_path)
    assert costs is not None
    assert [point[:3] for point in json.loads(path.read_text())["points"]] == [p[:3] for p in sound["points"]]
