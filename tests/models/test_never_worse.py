"""No bundled model makes a good picture worse: photographs of scikit-image, clean and lightly damaged.

Photographs (and scans) are those that come with the package, one place of each. An enlarger must be better than bicubic
interpolation of what it was given. A restorer must not be further from the original than what it was given, by more
than a tenth of a decibel. Where that would be invisible, for what was given is nearly perfect, the result must stay
better than `INVISIBLE`. The models for clean pictures promise nothing of damaged ones: their cards say so.
"""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from sr_tile.enhancer import Enhancer
from sr_tile.models import zoo

PHOTOGRAPHS = [
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
]
SIDE = 160
INVISIBLE = 38.0
"""Decibels: a root mean square error of 3 of 255."""

KNOWN = {
    ("denoise", "JPEG 95", "hubble_deep_field"): 35.3,
    ("denoise", "JPEG 90", "hubble_deep_field"): 33.5,
    ("denoise", "JPEG 90", "coins"): 37.4,
}
"""Where a model takes texture (faint stars, worn metal) for damage, as its card says, and what it reaches at least."""


def photograph(name):
    picture = getattr(data, name)()
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    height, width = (min(n, SIDE) // 4 * 4 for n in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width, :3])


def resized(picture, factor):
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def noisy(picture, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return (picture + noise).round().clip(0, 255).astype(np.uint8)


DAMAGES = {
    "none": lambda picture: picture,
    "JPEG 95": lambda picture: jpeg(picture, 95),
    "JPEG 90": lambda picture: jpeg(picture, 90),
    "noise 2": lambda picture: noisy(picture, 2),
    "noise 4": lambda picture: noisy(picture, 4),
}


def decibels(picture, truth):
    error = np.square(picture.astype(float) - truth).mean()
    return 10 * np.log10(255**2 / max(error, 1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(zoo.bundled()))
def test_no_photograph_comes_back_worse(model):
    with Enhancer(model, device="cpu") as enhancer:
        for damage in list(DAMAGES)[: 2 if model in zoo.CLEAN.values() else None]:
            check(model, enhancer, damage)


def check(model, enhancer, damage):
    scale, margin = enhancer.scale, 0.1 if enhancer.scale == 1 else 0
    worse = []
    for name in PHOTOGRAPHS:
        truth = photograph(name)
        given = DAMAGES[damage](resized(truth, 1 / scale) if scale > 1 else truth)
        after = decibels(enhancer.enhance(given), truth)
        before = decibels(resized(given, scale) if scale > 1 else given, truth)
        if after < KNOWN.get((model, damage, name), min(before - margin, INVISIBLE)):
            worse.append(f"{name}: {before:.2f} -> {after:.2f} dB")
    assert not worse, damage
