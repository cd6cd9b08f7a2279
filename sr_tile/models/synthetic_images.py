"""Rendered pictures to calibrate and compare with where no photographs are at hand: made, not stored, and always the same.

Each is drawn at twice its size and averaged, so that edges are antialiased as a camera's are.
"""

from collections.abc import Callable

import numpy as np

_RNG = np.random.Generator
_WORDS = "Sphinx of black quartz, judge my vow. 0123456789 (a + b) / c = 42 % & @"


def scenes(count: int = 15, side: int = 256, seed: int = 0) -> list[np.ndarray]:
    """Draw pictures of five kinds in turn: gradients, edges, dead leaves, texture, text.

    Args:
        count: how many.
        side: height and width in pixels.
        seed: another gives other pictures of the same kinds.

    Returns:
        Pictures (side, side, 3), float32, range [0, 1].
    """
    drawn = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        large = _KINDS[index % len(_KINDS)](rng, 2 * side)
        small = large.reshape(side, 2, side, 2, 3).mean(axis=(1, 3))
        drawn.append(np.ascontiguousarray(small.clip(0, 1), np.float32))
    return drawn


def _colour(rng: _RNG) -> np.ndarray:
    """Colours near gray more often than pure ones, dark and bright ones too."""
    return (rng.random() + 0.2 * rng.standard_normal(3)).clip(0, 1)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:side, 0:side] / side
    return y, x


def _gradients(rng: _RNG, side: int) -> np.ndarray:
    """A smooth sky: slopes of colour and a soft light."""
    y, x = _grid(side)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * x + np.sin(angle) * y + 1) / 2
    cy, cx = rng.random(2)
    light = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(0.02, 0.3))
    ground = _colour(rng) * slope[..., None] + _colour(rng) * (1 - slope[..., None])
    return ground + (_colour(rng) - 0.3) * light[..., None]


def _edges(rng: _RNG, side: int) -> np.ndarray:
    """Half planes, stripes and a fan of rays: edges of every slope and contrast."""
    y, x = _grid(side)
    picture = np.broadcast_to(_colour(rng), (side, side, 3)).copy()
    for _ in range(8):
        angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 1.0)
        distance = np.cos(angle) * x + np.sin(angle) * y - shift
        picture[(distance > 0) & (distance < rng.uniform(0.05, 0.6))] = _colour(rng)
    turns = np.arctan2(y - 0.5, x - 0.5)
    rays = (np.sin(turns * rng.integers(12, 40)) > 0) & (np.hypot(y - 0.5, x - 0.5) < 0.3)
    picture[rays] = _colour(rng)
    return picture


def _dead_leaves(rng: _RNG, side: int) -> np.ndarray:
    """Discs over discs with radii by a power law, whose statistics are those of photographs.

    Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 41, 2001.
    """
    picture = np.broadcast_to(_colour(rng), (side, side, 3)).copy()
    low, high = 3.0, side / 4
    for _ in range(700):
        radius = (low**-2 - rng.random() * (low**-2 - high**-2)) ** -0.5
        cy, cx = rng.uniform(0, side, 2)
        y0, x0 = int(max(0, cy - radius)), int(max(0, cx - radius))
        y, x = np.ogrid[y0 : int(min(side, cy + radius + 1)), x0 : int(min(side, cx + radius + 1))]
        patch = picture[y0 : y0 + y.shape[0], x0 : x0 + x.shape[1]]
        patch[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = _colour(rng)
    return picture


def _texture(rng: _RNG, side: int) -> np.ndarray:
    """Noise whose amplitude falls with the frequency, as in photographs, over gratings that grow finer."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = 1
    grains = rng.standard_normal((side, side, 1)) + 0.3 * rng.standard_normal((side, side, 3))
    spectrum = np.fft.rfft2(grains, axes=(0, 1))
    noise = np.fft.irfft2(spectrum / frequency[..., None] ** rng.uniform(0.9, 1.4), (side, side), axes=(0, 1))
    y, x = _grid(side)
    waves = np.sin(2 * np.pi * rng.uniform(5, 20) * (x + y * rng.uniform(-1, 1)) * (1 + 3 * y))
    return _colour(rng) + 0.15 * noise / noise.std() + 0.15 * rng.random() * waves[..., None]


def _text(rng: _RNG, side: int) -> np.ndarray:
    """Lines of text in several sizes on plain paper."""
    from PIL import Image, ImageDraw, ImageFont

    ground = _colour(rng)
    opposite = 0.9 * (ground.mean() < 0.5) + 0.1 * _colour(rng)
    paper, ink = (tuple(int(255 * value) for value in colour) for colour in (ground, opposite))
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    y = 4.0
    while y < side:
        size = float(rng.uniform(14, 48))
        start = int(rng.integers(len(_WORDS)))
        words = (_WORDS[start:] + " " + _WORDS) * 3
        draw.text((float(rng.uniform(0, 10)), y), words, fill=ink, font=ImageFont.load_default(size))
        y += 1.3 * size
    return np.asarray(image, np.float64) / 255


_KINDS: tuple[Callable[[_RNG, int], np.ndarray], ...] = (_gradients, _edges, _dead_leaves, _texture, _text)
