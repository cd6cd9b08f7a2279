"""The fastest tile and batch that fit."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.planning import GIB, LOCAL, HungryEngine, measured, spec
from support.toys import ToyEngine

from sr_tile.planner import Settings, choose_tile_and_batch, make_plan, measure_calls
from sr_tile.planner.choose_tile_and_batch import MAX_EXTRAPOLATION
from sr_tile.planner.explain import reasons
from sr_tile.planner.plan import TIE_TOLERANCE
from sr_tile.planner.tiles import is_local, plan_tiles
from sr_tile.system import memory


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


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_batch_has_all_rows_that_are_computed_side_by_side_where_memory_allows(monkeypatch, is_measured):
    if is_measured:
        measured(monkeypatch, lambda n: 1e-6 * n)
    for rows, free, batch in ((1, 8, 1), (2, 8, 2), (2, 0.8, 1)):
        monkeypatch.setattr(memory, "free_ram", lambda free=free: int(free * GIB))
        engine = HungryEngine(spec=spec(halo=10, tile=512), device="cpu", per_pixel=1000)
        engine.parallel_rows, engine.identity = rows, "side by side"
        plan = make_plan(engine, Settings(tile=512, mem_limit=100 * GIB))
        assert (plan.tile, plan.batch) == ((512, 512), batch)


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
