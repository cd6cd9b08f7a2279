"""Padding: pixels that are invented where the image has none."""

import numpy as np


def pad(tile_hwc: np.ndarray, height: int, width: int, multiple: int = 1) -> np.ndarray:
    """Fill a tile at its bottom and right where the image ends: reflected, then repeated where that has no room.

    What is missing to the next multiple is repeated at once: most networks pad a whole image so (SCUNet, our own), and
    the tile then shows them what the whole image would.

    Args:
        tile_hwc: (h, w, channels), at most (height, width).
        height: rows wanted.
        width: columns wanted.
        multiple: alignment of the network.

    Returns:
        (height, width, channels); the input itself where nothing is missing.
    """
    for axis, wanted in ((0, height), (1, width)):
        length = tile_hwc.shape[axis]
        if length < wanted:
            positions = np.arange(wanted)
            beyond = length - 1 if wanted - length < multiple else np.maximum(2 * (length - 1) - positions, 0)
            tile_hwc = np.take(tile_hwc, np.where(positions < length, positions, beyond), axis=axis)
    return tile_hwc
