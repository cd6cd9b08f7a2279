"""Padding: pixels that are invented where the image has none."""

from typing import Literal

import numpy as np

Padding = Literal["replicate", "reflect", "symmetric", "zeros", "own"]
"""How a network fills the last cell of its grid where the picture ends inside; `own`: as nothing else does."""


def pad(tile_hwc: np.ndarray, height: int, width: int, multiple: int = 1, padding: Padding = "replicate") -> np.ndarray:
    """Fill a tile at its bottom and right where the image ends: reflected, then repeated where that has no room.

    What is missing to the next multiple is filled as the network itself does with a whole image (most repeat the last
    pixels: SCUNet, our own), so that the tile shows it what the whole image would.

    Args:
        tile_hwc: (h, w, channels), at most (height, width).
        height: rows wanted.
        width: columns wanted.
        multiple: alignment of the network.
        padding: how the network fills its last cell.

    Returns:
        (height, width, channels); the input itself where nothing is missing.
    """
    for axis, wanted in ((0, height), (1, width)):
        length = tile_hwc.shape[axis]
        if length < wanted:
            kind = padding if wanted - length < multiple else "reflect"
            positions = np.arange(wanted)
            ends = {"replicate": np.full(wanted, length - 1), "symmetric": 2 * length - 1 - positions}
            beyond = np.maximum(ends.get(kind, 2 * (length - 1) - positions), 0)
            tile_hwc = np.take(tile_hwc, np.where(positions < length, positions, beyond), axis=axis)
            if kind == "zeros":
                (tile_hwc if axis == 0 else tile_hwc.swapaxes(0, 1))[length:] = 0
    return tile_hwc
