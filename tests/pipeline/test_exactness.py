"""A network that changes nothing gives the picture itself, whatever its size and its tiles."""

import numpy as np
import pytest
from support.pipelines import plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image, repeat

from sr_tile.models.spec import ModelSpec

# Every length in each direction, alone, and beside a length of its own kind and of another: y and x are cut apart.
SIZES = [size for n in range(1, 41) for size in ((n, 3), (3, n), (n, n), (n, 41 - n))]


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(("tile", "overlap", "halo"), [(8, 0, 0), (9, 4, 1), (16, 6, 0), (24, 18, 6), (64, 32, 8)])
def test_identity_is_exact_for_every_length_up_to_40(scale, tile, overlap, halo):
    engine = ToyEngine(ModelSpec("toy", scale=scale, multiple=1))
    batch = {1: 8, 2: 3, 4: 1}[scale]
    dtypes = [np.uint16 if (sum(size) + scale) % 3 == 0 else np.uint8 for size in SIZES]
    images = [noise_image(*size, 3, dtype, sum(size)) for size, dtype in zip(SIZES, dtypes, strict=True)]
    results = run(images, engine, plan(tile, overlap, halo, batch=batch))
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result, repeat(image, scale)), (image.shape, batch)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("model_channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_identity_is_exact_for_every_kind_of_pixel(channels, model_channels, dtype):
    engine = ToyEngine(ModelSpec("toy", scale=2, channels=model_channels, multiple=1, value_range=(0.0, 1.0)))
    image = noise_image(37, 53, channels, dtype)
    if channels in (2, 4):  # colours under full transparency are enlarged as alpha is, see below
        image[..., -1] = np.maximum(image[..., -1], np.finfo(np.float32).eps if dtype == np.float32 else 1)
    (result,) = run([image], engine, plan(16, 6, 1, batch=4), alpha="model")
    if dtype == np.float32:
        np.testing.assert_allclose(result, repeat(image, 2), atol=2e-7)
    else:
        assert np.array_equal(result, repeat(image, 2))


@pytest.mark.parametrize("alpha", ["model", "bicubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_that_nobody_sees_come_back_exactly_at_scale_1(alpha, dtype):
    image = noise_image(61, 47, 4, dtype)
    image[10:40, 5:30, 3] = 0
    (result,) = run([image], ToyEngine(), plan(16, 6, 1, batch=4), alpha=alpha)
    seen = image[..., 3:] > 0
    assert np.array_equal(result[..., 3], image[..., 3])
    # A model may make some of what is hidden visible: its colours are those of the neighbours then.
    assert np.array_equal(result * seen, image * seen) if alpha == "model" else np.array_equal(result, image)


def test_colours_that_nobody_sees_do_not_bleed():
    image = np.full((64, 64, 4), 255, np.uint8)
    image[:, 32:] = 0
    (result,) = run([image], BoxBlurEngine(3), plan(32, 16, 4))
    assert result[8:-8, 8:32, :3].min() >= 250


def test_tiles_do_not_show_in_what_was_filled():
    image = noise_image(160, 200, 4)
    y, x = np.mgrid[:160, :200]
    image[(x - 90) ** 2 + (y - 80) ** 2 > 2500] = 0
    (tiled,), (whole,) = (run([image], BoxBlurEngine(6), tiles) for tiles in (plan(48, 16, 8), plan(256)))
    assert np.array_equal(tiled, whole)


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-1.0, 1.0), (-0.5, 0.5)])
def test_the_models_range_of_values_changes_nothing(value_range):
    engine = ToyEngine(ModelSpec("toy", scale=1, multiple=1, value_range=value_range))
    for dtype in (np.uint8, np.uint16):
        image = noise_image(40, 30, 3, dtype)
        assert np.array_equal(run([image], engine, plan(16, 4))[0], image)


@pytest.mark.parametrize(
    ("dtype", "keywords"), [(np.uint8, {}), (np.uint16, {"equalised": True}), (np.uint8, {"multiple": 64})]
)
def test_identity_is_exact_at_every_count_of_tiles_of_256(dtype, keywords):
    """Lengths around each at which one more tile or multiple is needed, in each direction, and some in both at once."""
    both = [(256, 448), (448, 1024), (1024, 256), (257, 1100), (1099, 250), (1024, 1024)]
    edges = {*range(256, 1100, 192), *range(256, 1100, 64)}
    lengths = sorted({edge + step for edge in edges for step in (-2, -1, 0, 1, 2, 33)})
    sizes = [(length, 3) for length in lengths] + [(3, length) for length in lengths] + both
    images = [noise_image(*size, 1, dtype, sum(size)) for size in sizes]
    for result, image in zip(run(images, ToyEngine(), plan(256, 64, 16, batch=8, **keywords)), images, strict=True):
        assert np.array_equal(result, image), image.shape


def test_tiles_have_one_shape_and_nothing_is_invented_where_the_image_is_large_enough():
    engine = ToyEngine()
    run([noise_image(100, 70)], engine, plan(32, 8, 2, batch=4))
    assert {shape[2:] for shape in engine.shapes} == {(32, 32)}
    assert sum(shape[0] for shape in engine.shapes) == 4 * 3


def test_small_images_are_padded_to_the_multiple_only():
    engine = ToyEngine()
    image = noise_image(5, 21)
    (result,) = run([image], engine, plan(32, 8, 2, multiple=8))
    assert engine.shapes == [(1, 3, 8, 24)]
    assert np.array_equal(result, image)


def test_a_fixed_tile_is_padded_to():
    engine = ToyEngine()
    image = noise_image(5, 21)
    (result,) = run([image], engine, plan(32, 8, 2, fitted=False))
    assert engine.shapes == [(1, 3, 32, 32)]
    assert np.array_equal(result, image)
