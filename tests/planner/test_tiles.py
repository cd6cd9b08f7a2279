"""Which tiles may be: overlap, halo and multiple, from settings and model."""

import pytest
from support.planning import spec

from sr_tile.errors import ArgumentError, GeometryError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings
from sr_tile.planner.tiles import plan_tiles


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


@pytest.mark.parametrize("limit", ["2GiB", 0, -1, 1.5])
def test_a_limit_that_is_no_number_of_bytes_is_refused_at_once(limit):
    with pytest.raises(ArgumentError, match=r"mem_limit is .*a whole number of bytes"):
        Settings(mem_limit=limit)


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
