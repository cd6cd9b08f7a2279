"""Bicubic resampling and luma exactly as the super-resolution literature measures with.

The published PSNR figures are made with MATLAB's `imresize` (bicubic, widened kernel when shrinking) and `rgb2ycbcr`;
half a pixel of difference moves them by decibels, so both are written out here in numpy.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -0.5 (Keys 1981), support 4.

    Args:
        distance: distances from the sample in pixels, any shape.
    """
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@lru_cache(maxsize=256)
def _taps(length: int, out_length: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Source indices and weights of each output sample: both (out_length, taps)."""
    scale = out_length / length
    stretch = min(scale, 1.0)
    width = 4 / stretch
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    left = np.floor(centre - width / 2).astype(np.int64)
    index = left[:, None] + np.arange(int(np.ceil(width)) + 2)
    weight = cubic((centre[:, None] - index) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    used = np.any(weight != 0, axis=0)
    return mirrored[index[:, used] % (2 * length)], weight[:, used].astype(np.float32)


def imresize(image_hwc: NDArray[np.generic], height: int, width: int) -> NDArray[np.float32]:
    """Resize as MATLAB's `imresize(..., 'bicubic')`: antialiased when shrinking, mirrored at the borders.

    Args:
        image_hwc: (H, W) or (H, W, C), any range; the range is kept (overshoot is not clipped).
        height: output rows.
        width: output columns.
    """
    out = np.asarray(image_hwc, np.float32)
    for axis, size in ((0, height), (1, width)):
        if out.shape[axis] == size:
            continue
        index, weight = _taps(out.shape[axis], size)
        moved = np.moveaxis(out, axis, 0)
        shape = (size,) + (1,) * (moved.ndim - 1)
        total = np.zeros((size, *moved.shape[1:]), np.float32)
        for tap in range(index.shape[1]):
            total += moved[index[:, tap]] * weight[:, tap].reshape(shape)
        out = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(out)


def to_uint8(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Round and clip an image of range [0, 255] to bytes."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def luma(image_hwc: NDArray[np.generic]) -> NDArray[np.float64]:
    """Y of BT.601 in studio range [16, 235], as MATLAB's `rgb2ycbcr`, from RGB of range [0, 255]."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(image_hwc, np.float64) @ weights + 16


def bicubic_phases(scale: int) -> NDArray[np.float32]:
    """Bicubic enlargement as one convolution of the small image followed by a pixel shuffle.

    Returns:
        (scale * scale, 5, 5): the kernel of each output phase, row phase first; each sums to 1.
    """
    offset = (np.arange(scale) + 0.5) / scale - 0.5
    taps = cubic(offset[:, None] - np.arange(-2, 3))
    taps /= taps.sum(axis=1, keepdims=True)
    return np.einsum("ai,bj->abij", taps, taps).reshape(scale * scale, 5, 5).astype(np.float32)
