"""Measure how far a network looks, on its graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_tile.tiling.grid import round_up

Picture = NDArray[np.float32]
Run = Callable[[Picture], Picture]

CANVAS = 384
"""Side of the picture measured on; what reaches its border counts as unbounded."""
HALF_STEP = 0.5 / 255
INFLUENCE = 0.999
DARK = 0.1


@dataclass(frozen=True)
class Locality:
    """How far pixels act.

    Attributes:
        receptive_field: side of the square of output pixels that one input pixel changes; None where it is unbounded.
        halo: pixels of real context after which a tile differs from the whole by less than half an 8-bit step, rounded
            up to the multiple; where no such distance exists, the radius that holds 99.9 % of a pixel's influence.
        seam: largest difference that is left with this halo, range [0, 1]; of a network that looks everywhere, where the
            rest of the picture is dark.
    """

    receptive_field: int | None
    halo: int
    seam: float


def natural_like(batch: int, channels: int, height: int, width: int, seed: int = 0) -> Picture:
    """Random pictures with the spectrum of photographs, about 1 / f: (batch, channels, height, width), range [0, 1]."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(generator.standard_normal((batch, channels, height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    pictures = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / max(height, width)), s=(height, width))
    pictures /= max(float(pictures.std()), 1e-6) * 5
    return np.clip(0.5 + pictures, 0, 1).astype(np.float32)


def measure(run: Run, channels: int, scale: int, multiple: int, canvas: int = CANVAS) -> Locality:
    """Change one pixel and see where the output changes; cut the picture and see how far in the output differs.

    Args:
        run: (1, channels, h, w) to (1, channels, h * scale, w * scale).
        channels: channels of the picture.
        scale: output pixels per input pixel.
        multiple: tiles start and end at multiples of it.
        canvas: side of the picture.
    """
    side = round_up(canvas, multiple)
    picture = natural_like(1, channels, side, side)
    whole = run(picture)
    changed = picture.copy()
    changed[:, :, side // 2, side // 2] += np.where(changed[:, :, side // 2, side // 2] < 0.5, 0.5, -0.5)
    reach, radius = _reach(np.abs(run(changed) - whole).max(axis=(0, 1)), scale)
    unbounded = reach >= side // 2 - 1
    cut = side // 3 * 2 // multiple * multiple or multiple
    tile = run(np.ascontiguousarray(picture[..., :cut]))
    columns = np.abs(tile - whole[..., : cut * scale]).max(axis=(0, 1, 2)).reshape(cut, scale).max(axis=1)[::-1]
    left = np.maximum.accumulate(columns[::-1])[::-1]
    enough = np.flatnonzero(left < HALF_STEP)
    halo = int(enough[0]) if enough.size else min(radius, side // 4)
    halo = min(round_up(halo, multiple), cut)
    seam = float(left[min(halo, cut - 1)])
    if unbounded:  # what it takes of the whole picture shows where the rest of it is another
        picture[..., cut:] *= DARK
        differences = np.abs(tile - run(picture)[..., : cut * scale])
        seam = max(seam, float(differences[..., : max(1, cut - halo) * scale].max()))
    return Locality(None if unbounded else 2 * reach + 1, halo, seam)


def _reach(change: Picture, scale: int) -> tuple[int, int]:
    """Largest distance, in input pixels, at which anything changes, and the one within which 99.9 % of it lies."""
    height, width = change.shape
    y, x = (np.abs(np.arange(n) // scale - n // scale // 2) for n in (height, width))
    distance = np.maximum(y[:, None], x)
    weight = np.bincount(distance.ravel(), change.ravel().astype(np.float64))
    peak = np.zeros(weight.size)
    np.maximum.at(peak, distance.ravel(), change.ravel())
    reached = np.flatnonzero(peak > 1e-6 * max(float(change.max()), 1e-12))
    share = np.cumsum(weight) / max(float(weight.sum()), 1e-12)
    return int(reached[-1]) if reached.size else 0, int(np.searchsorted(share, INFLUENCE))
