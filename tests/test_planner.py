import math

import pytest
from toys import ToyEngine

from sr_tile import memory
from sr_tile.errors import ArgumentError, GeometryError, OutOfMemoryError
from sr_tile.planner import Plan, Settings, band_bytes, cached_probe, make_plan, plan_tiles, probe_memory
from sr_tile.spec import ModelSpec

GIB = 2**30


class HungryEngine(ToyEngine):
    """Takes a known number of bytes for each pixel, and keeps what it took, as an arena does."""

    def __init__(self, per_pixel=1000, free=8 * GIB, device="cuda:0", **keywords):
        super().__init__(**keywords)
        self.device, self.per_pixel, self.free, self.used = device, per_pixel, free, 0

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


def test_the_probe_finds_the_price_of_a_pixel():
    engine = HungryEngine(per_pixel=1234)
    assert probe_memory(engine, plan_tiles(spec(), Settings())) == pytest.approx(1234)
    assert probe_memory(engine, plan_tiles(spec(), Settings())) == pytest.approx(1234)  # of a used session, too


def test_the_probe_is_remembered_by_engine_and_tile(tmp_path):
    engine = HungryEngine()
    plan = plan_tiles(spec(), Settings())
    first = cached_probe(engine, plan, tmp_path)
    calls = len(engine.shapes)
    assert cached_probe(engine, plan, tmp_path) == first
    assert len(engine.shapes) == calls
    engine.identity = "another"
    cached_probe(engine, plan, tmp_path)
    assert len(engine.shapes) > calls
    for path in tmp_path.iterdir():
        path.write_text("{broken")
    engine.rebuild()
    assert cached_probe(engine, plan, tmp_path) == first


@pytest.mark.parametrize("free", [GIB // 4, GIB, 4 * GIB, 100 * GIB])
def test_batch_fills_the_free_memory_but_for_the_headroom(free):
    engine = HungryEngine(per_pixel=4000, free=free, spec=spec())
    engine.identity = f"hungry-{free}"
    plan = make_plan(engine, Settings())
    price = 4000 * math.prod(plan.tile)
    assert plan.batch == max(1, min(int(0.9 * free / price), 64))


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
    plan = Plan((512, 512), 20, 10, 1, band_budget=300e6, equalised=True)
    assert plan.grid_for(1000, 1000, 3, 2).y.tile > 400
    grid = plan.grid_for(5000, 60_000, 3, 2)
    assert band_bytes(grid, 3, 2) <= 300e6
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


def test_the_models_price_is_never_less_than_its_input_and_output():
    assert probe_memory(ToyEngine(spec()), plan_tiles(spec(), Settings())) >= 4 * 3 * (1 + 4)
