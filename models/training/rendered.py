"""Rendered training images: what photographs hold too little of (hard edges, text, line art, flat colour).

Everything is drawn three times too large and reduced by averaging, which gives edges their natural antialiasing.
"""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

OVERSAMPLING = 3


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A colour: half of the time a grey, so that lines without colour are common, as they are in print."""
    values = rng.integers(0, 256, 3)
    if rng.random() < 0.5:
        values[:] = values[0]
    return int(values[0]), int(values[1]), int(values[2])


def dead_leaves(size: int, rng: np.random.Generator) -> Image.Image:
    """Overlapping discs and rectangles with power-law sizes (Lee, Mumford and Huang 2001): natural edge statistics."""
    canvas = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(300, 1500))):
        radius = 6 / np.sqrt(rng.uniform((12 / size) ** 2, 1))
        x, y = rng.uniform(-radius, size + radius, 2)
        turn, sides = rng.uniform(0, 360), int(rng.integers(2, 6))
        if sides == 2:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(rng))
        else:
            draw.regular_polygon((x, y, radius), sides, turn, fill=_colour(rng))
    return canvas


def text(size: int, rng: np.random.Generator) -> Image.Image:
    """Lines of random words in many sizes, each on its own patch of flat colour."""
    canvas = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(canvas)
    letters = np.array(list(string.ascii_letters + string.digits + "      .,;:!?&@#()"))
    y = 0
    while y < size:
        height = int(np.exp(rng.uniform(np.log(8 * OVERSAMPLING), np.log(48 * OVERSAMPLING))))
        if rng.random() < 0.3:
            draw.rectangle((0, y, size, y + 2 * height), fill=_colour(rng))
        words = "".join(rng.choice(letters, 2 * size // height + 4))
        draw.text((int(rng.integers(-height, height)), y), words, _colour(rng), font=ImageFont.load_default(height))
        y += int(height * rng.uniform(1.0, 1.6))
    return canvas


def line_art(size: int, rng: np.random.Generator) -> Image.Image:
    """Strokes of one to eight pixels, arcs and gratings on flat ground."""
    canvas = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(40, 200))):
        width = int(rng.integers(OVERSAMPLING, 8 * OVERSAMPLING))
        points = rng.uniform(0, size, (int(rng.integers(2, 5)), 2))
        ink = _colour(rng)
        if rng.random() < 0.4:
            (x0, x1), (y0, y1) = np.sort(points[:2, 0]), np.sort(points[:2, 1])
            draw.arc((x0, y0, x1 + 1, y1 + 1), *rng.uniform(0, 360, 2), fill=ink, width=width)
        else:
            draw.line([tuple(p) for p in points], ink, width, joint="curve")
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(0, size * 0.7, 2)
        pitch, ink = rng.uniform(4, 14) * OVERSAMPLING, _colour(rng)
        slant = rng.uniform(-1, 1) * size / 4
        for k in range(12):
            draw.line((x + k * pitch, y, x + k * pitch + slant, y + size / 4), ink, int(pitch / 2))
    return canvas


def rendered_images(count: int, size: int, seed: int) -> list[NDArray[np.uint8]]:
    """Draw a bank of images, the three kinds in turn.

    Args:
        count: number of images.
        size: edge length of each.
        seed: seed of everything drawn.

    Returns:
        Images (size, size, 3), RGB bytes.
    """
    rng = np.random.default_rng(seed)
    kinds = (dead_leaves, text, line_art)
    images = []
    for number in range(count):
        canvas = kinds[number % len(kinds)](size * OVERSAMPLING, rng)
        images.append(np.asarray(canvas.reduce(OVERSAMPLING)))
    return images
