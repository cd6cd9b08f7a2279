"""Tiles do not show."""

import numpy as np
import pytest
from support.pipelines import plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image, repeat

from sr_tile.enhancer import Enhancer
from sr_tile.models.spec import ModelSpec
from sr_tile.tiling.channels import enlarge_bicubic


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("overlap", "halo"), [(6, 3), (8, 3), (15, 4)])
def test_tiled_equals_whole_when_the_halo_covers_the_receptive_field(scale, overlap, halo):
    engine = BoxBlurEngine(3, spec=ModelSpec("blur", scale=scale, multiple=1))
    image = noise_image(60, 78, 3, np.float32)
    whole = engine.answer(image.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    for keywords in ({}, {"equalised": True}, {"batch": 5}):
        (result,) = run([image], engine, plan(24, overlap, halo, **keywords))
        np.testing.assert_allclose(result, whole.clip(0, 1), atol=1e-6)


def test_too_small_a_halo_is_seen():
    """The test above can fail."""
    engine = BoxBlurEngine(3)
    image = noise_image(60, 78, 3, np.float32)
    whole = engine.answer(image.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    (result,) = run([image], engine, plan(24, 6, 2))
    assert np.abs(result - whole).max() > 1e-3


@pytest.mark.parametrize(("overlap", "halo"), [(0, 0), (4, 1), (8, 2)])
@pytest.mark.parametrize("scale", [2, 3])
def test_alpha_shows_no_seams(overlap, halo, scale):
    engine = ToyEngine(ModelSpec("toy", scale=scale, multiple=1))
    image = noise_image(72, 70, 4, np.float32)
    whole = enlarge_bicubic(image[..., 3:].transpose(2, 0, 1), scale)[0].clip(0, 1)
    (result,) = run([image], engine, plan(24, overlap, halo))
    np.testing.assert_allclose(result[..., 3], whole, atol=1e-6)
    assert np.allclose(result[..., :3], repeat(image[..., :3], scale), atol=1e-6)


@pytest.mark.parametrize("alpha", ["bicubic", "model"])
def test_what_nobody_saw_is_not_seen_around_alpha_that_the_network_enlarges(alpha):
    """A white disc on black that is fully transparent, as editors store it, over white."""
    y, x = np.mgrid[:96, :96]
    rgba = np.zeros((96, 96, 4), np.uint8)
    rgba[(x - 48) ** 2 + (y - 48) ** 2 < 900] = 255
    with Enhancer("clean-x2", device="cpu", precision="fp32", alpha=alpha) as enhancer:
        result = enhancer.enhance(rgba).astype(float)
    opacity = result[..., 3:] / 255
    assert (result[..., :3] * opacity + 255 * (1 - opacity)).min() >= 250
