"""What every bundled model promises: no seams, neutral on flat fields, no colour where there was none, small enough."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from sr_tile.enhancer import Enhancer
from sr_tile.models import zoo

MODELS = sorted(zoo.bundled())


def photograph(height, width):
    picture = data.astronaut()
    mirrored = np.concatenate([picture, picture[:, ::-1]], axis=1)
    return np.concatenate([mirrored, mirrored[::-1]], axis=0)[:height, :width]


@pytest.fixture(params=MODELS, scope="module")
def enhancer(request):
    with Enhancer(request.param, device="cpu") as enhancer:
        yield enhancer


def test_each_is_described_and_small():
    for name, path in zoo.bundled().items():
        assert path.stat().st_size <= 8e6
        card = path.with_suffix(".md").read_text()
        assert f"# {name}" in card
        assert "licence" in card.lower()
    for scale, name in zoo.DEFAULT.items():
        with Enhancer(name, device="cpu") as enhancer:
            assert enhancer.scale == scale


@pytest.mark.slow
def test_certificate_of_seams(enhancer):
    """The default tiles against the whole image in one call: 1 step of 255 almost everywhere, never more than 2."""
    image = photograph(531, 553)  # no multiple of any network's alignment
    if enhancer.scale == 1:
        noise = np.random.default_rng(0).normal(0, 25, image.shape)
        image = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    grid = enhancer.plan.grid(*image.shape[:2])
    assert len(grid) > 1
    # The model pads to its multiple by itself; a whole image is run as it is.
    batch = (image.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
    whole = np.rint(enhancer.engine.run(batch)[0].clip(0, 1) * 255).transpose(1, 2, 0)
    steps = np.abs(enhancer.enhance(image).astype(int) - whole)
    assert steps.max() <= 2
    assert (steps <= 1).mean() >= 0.9999


@pytest.mark.parametrize("value", [0, 1, 64, 127, 254, 255])
def test_flat_fields_stay_flat(enhancer, value):
    image = np.full((40, 52, 3), value, np.uint8)
    image[..., 1] = 255 - value  # coloured, unless it is middle grey
    result = enhancer.enhance(image).astype(int)
    assert np.abs(result - image[0, 0]).max() <= 2


def test_gradients_keep_their_colour(enhancer):
    ramp = np.linspace(0, 1, 96, dtype=np.float32)
    image = np.stack(
        [np.tile(ramp, (64, 1)), np.full((64, 96), 0.5, np.float32), np.tile(ramp[::-1], (64, 1))], axis=-1
    )
    scale = enhancer.scale
    result = enhancer.enhance(image)
    expected = np.asarray(
        [Image.fromarray(image[..., c]).resize((96 * scale, 64 * scale), Image.Resampling.BICUBIC) for c in range(3)]
    ).transpose(1, 2, 0)
    inside = np.s_[8 * scale : -8 * scale, 8 * scale : -8 * scale]
    assert np.abs(result[inside] - expected[inside]).max() < 0.03


def test_edges_overshoot_within_bounds_and_ring_no_further(enhancer):
    image = np.zeros((48, 64, 3), np.float32)
    image[:, 32:] = 0.8
    image[:, :32] = 0.2
    result = enhancer.enhance(image)
    edge = 32 * enhancer.scale
    far = 3 * enhancer.scale
    overshoot = max(0.2 - result.min(), result.max() - 0.8) / 0.6
    # An edge without any blur: x4 overshoots it by 30 %, x2 by 17 %; bicubic interpolation by 7 %.
    assert overshoot < {1: 0.2, 2: 0.2, 4: 0.35}[enhancer.scale]
    assert np.abs(result[:, : edge - far] - 0.2).max() < 0.05
    assert np.abs(result[:, edge + far :] - 0.8).max() < 0.05


def test_gray_text_stays_gray(enhancer):
    page = Image.new("RGB", (160, 48), "white")
    ImageDraw.Draw(page).text(
        (4, 4), "fine print 0123\nthin | lines ///", fill="black", font=ImageFont.load_default(12)
    )
    page.putpixel((150, 40), (0, 0, 0))  # a single black pixel
    result = enhancer.enhance(np.asarray(page)).astype(int)
    assert np.ptp(result, axis=2).max() <= 40
    scale = enhancer.scale
    if scale == 1:
        return  # a denoiser takes a single pixel for noise, and says so in its card
    dot = result[40 * scale : 41 * scale, 150 * scale : 151 * scale]
    assert dot.mean() < 170  # still there
