import numpy as np
import pytest
from PIL import Image
from skimage import data
from support.toys import noise_image

from sr_tile.tiling.channels import enlarge_bicubic, parts_of


@pytest.mark.parametrize("image_channels", [1, 2, 3, 4])
@pytest.mark.parametrize("model_channels", [1, 3])
@pytest.mark.parametrize("alpha", ["bicubic", "model"])
def test_every_channel_is_written_exactly_once_and_comes_back_as_it_went(image_channels, model_channels, alpha):
    tile = noise_image(4, 5, image_channels, np.float32).transpose(2, 0, 1)
    result = np.full_like(tile, np.nan)
    for part in parts_of(image_channels, model_channels, alpha):
        rows = part.gather(tile)
        assert rows.shape == (model_channels, 4, 5)
        assert np.isnan(result[part.channels]).all()
        result[part.channels] = part.scatter(rows)
    last = image_channels - 1 if image_channels in (2, 4) and alpha == "bicubic" else image_channels
    assert np.isnan(result[last:]).all()
    np.testing.assert_allclose(result[:last], tile[:last], rtol=2e-7)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_equals_pillows(scale):
    image = data.camera()[100:160, 100:170].astype(np.float32)
    height, width = image.shape
    expected = Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    result = enlarge_bicubic(image[None], scale)[0]
    edge = 2 * scale  # Pillow renormalises its kernel at the border, we repeat the border pixels
    inside = np.s_[edge:-edge, edge:-edge]
    np.testing.assert_allclose(result[inside], np.asarray(expected)[inside], atol=1e-3)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_bicubic_keeps_a_constant(scale):
    for value in (0.0, 1.0, 1 / 3, 0.7):
        plane = np.full((1, 3, 1), value, np.float32)
        np.testing.assert_allclose(enlarge_bicubic(plane, scale), value, rtol=1e-6)


def test_bicubic_at_scale_1_is_the_identity():
    image = noise_image(7, 9, 2, np.float32).transpose(2, 0, 1)
    assert np.array_equal(enlarge_bicubic(image, 1), image)
