"""Plans within the memory."""

import math

import pytest
from support.planning import GIB, LOCAL, HungryEngine, measured, spec
from support.toys import ToyEngine

from sr_tile.errors import OutOfMemoryError
from sr_tile.planner import Plan, Settings, make_plan, strip_bytes
from sr_tile.system import memory


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


@pytest.mark.parametrize("is_measured", [True, False])
def test_tiles_have_widths_that_the_engine_computes_fastest_where_there_are_several(monkeypatch, is_measured):
    if is_measured:
        measured(monkeypatch, lambda n: 0.01 + 1e-6 * n)
    engine = HungryEngine(spec=LOCAL, free=int(8e9))
    plain = make_plan(engine, Settings())
    engine.width_step = 16
    stepped = make_plan(engine, Settings())
    for width in range(300, 4000, 77):
        one, two = (plan.grid(1000, width) for plan in (plain, stepped))
        if len(two.x.starts) > 1:
            assert two.x.tile % 16 == 0
        assert two.redundancy < 1.1 * one.redundancy


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
