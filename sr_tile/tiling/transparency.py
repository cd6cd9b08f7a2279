"""Colours that nobody sees must not reach those that are seen: under full transparency, and NaN; filled, then restored.

Editors leave black under what is erased. A network looks at all pixels around one, so the edge of what is visible would
take that colour on. Its input therefore has the nearest visible colours there, and where the result is fully transparent
again it gets the original ones back. Pixels of floats that are no number are handled alike.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sr_tile.tiling.channels import enlarge_bicubic
from sr_tile.types import Array, Float32

_COLUMNS, _MARGIN = 1024, 128  # filled at a time, and beyond: no network looks further
MODEL_REACH = 16
"""Pixels around what is visible in which networks are seen to overshoot: alpha that was 0 is more than that."""
_OPAQUE_ENOUGH = 0.5 / 65_535  # alpha that becomes more than 0 in 16 bits


def is_visible(pixels_hwc: np.ndarray) -> np.ndarray:
    """(height, width): which pixels have colours, and are not fully transparent."""
    channels = pixels_hwc.shape[2]
    visible = pixels_hwc[..., -1] > 0 if channels in (2, 4) else np.ones(pixels_hwc.shape[:2], bool)
    if pixels_hwc.dtype == np.float32:
        visible &= ~np.isnan(pixels_hwc).any(axis=2)
    return visible


def fill_hidden(pixels_hwc: np.ndarray) -> np.ndarray:
    """Rows of an image with the colours of a visible pixel nearby wherever alpha is 0, or a colour is NaN.

    Memory follows a part of the rows, not their width.

    Args:
        pixels_hwc: (height, width, 1 to 4), alpha last.

    Returns:
        The same array where nothing is hidden, or all and nothing NaN, a copy otherwise; alpha is unchanged.
    """
    channels = pixels_hwc.shape[2]
    if pixels_hwc.dtype != np.float32 and channels not in (2, 4):
        return pixels_hwc
    visible = is_visible(pixels_hwc)
    if visible.all() or not (visible.any() or np.isnan(pixels_hwc).any()):
        return pixels_hwc
    filled_hwc = np.nan_to_num(pixels_hwc)
    colours = slice(0, channels - (channels in (2, 4)))
    for first in range(0, pixels_hwc.shape[1], _COLUMNS):
        core = slice(first, first + _COLUMNS)
        around = slice(max(0, first - _MARGIN), first + _COLUMNS + _MARGIN)
        hidden = ~visible[:, core]
        if hidden.any() and visible[:, around].any():
            inner = slice(first - around.start, first - around.start + hidden.shape[1])
            rows, columns = (index[:, inner][hidden] for index in _nearest(visible[:, around]))
            filled_hwc[:, core, colours][hidden] = pixels_hwc[:, around, colours][rows, columns]
    if pixels_hwc.dtype == np.float32:  # beside one that is NaN, the finite values of a visible pixel are its own
        own = np.isfinite(pixels_hwc[..., colours])
        if channels in (2, 4):
            own &= pixels_hwc[..., -1:] > 0
        np.copyto(filled_hwc[..., colours], pixels_hwc[..., colours], where=own)
    return filled_hwc


def _nearest(visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of a visible pixel near each of (h, w), at most the square root of 2 as far as the nearest one.

    Along rows it is exact; the best is then handed down and up from row to row, as in Danielsson's distance maps (Computer
    Graphics and Image Processing 14, 1980). A pixel that is second best in one row may be the nearest in a later one, hence
    the bound.
    """
    height, width = visible.shape
    columns, nowhere = np.arange(width, dtype=np.int32), 4 * (height + width)
    left = np.maximum.accumulate(np.where(visible, columns, np.int32(-nowhere)), axis=1)
    right = np.minimum.accumulate(np.where(visible, columns, np.int32(nowhere))[:, ::-1], axis=1)[:, ::-1]
    column = np.where(columns - left <= right - columns, left, right)
    row = np.repeat(np.arange(height, dtype=np.int32)[:, None], width, axis=1)
    distance = (columns - column).astype(np.int64) ** 2
    for order, step in ((range(1, height), -1), (range(height - 2, -1, -1), 1)):
        for y in order:
            other = (columns - column[y + step]).astype(np.int64) ** 2 + (y - row[y + step]).astype(np.int64) ** 2
            better = other < distance[y]
            for mine, theirs in ((distance, other), (row, row[y + step]), (column, column[y + step])):
                np.copyto(mine[y], theirs, where=better)
    return row, column


def _grown(alpha_chw: np.ndarray, reach: int) -> np.ndarray:
    """The largest alpha within a square around each pixel."""
    for axis in (1, 2) if reach else ():
        around = [(0, 0), *((reach, reach) if axis == each else (0, 0) for each in (1, 2))]
        alpha_chw = sliding_window_view(np.pad(alpha_chw, around), 2 * reach + 1, axis).max(axis=-1)
    return alpha_chw


def restore_hidden(
    output_chw: Float32[Array, "c H W"],
    original_chw: Float32[Array, "c h w"],
    alpha_chw: Float32[Array, "a h w"],
    scale: int,
    reach: int = 0,
) -> Float32[Array, "c H W"]:
    """An output with the original colours, enlarged, where enlarged alpha is 0 (at scale 1 bit for bit), and with NaN.

    reach: pixels of the original by which what is visible may grow, where a network enlarges alpha (`MODEL_REACH`).
    Rows and columns of the output beyond those of the original, which padding made, stay.
    """
    height, width = (side * scale for side in alpha_chw.shape[1:])
    restored_chw = output_chw.copy()
    if len(alpha_chw):
        hidden = enlarge_bicubic(_grown(alpha_chw, reach), scale) <= _OPAQUE_ENOUGH
        np.copyto(restored_chw[:, :height, :width], enlarge_bicubic(np.nan_to_num(original_chw), scale), where=hidden)
    lost = np.isnan(original_chw).repeat(scale, axis=1).repeat(scale, axis=2)
    np.copyto(restored_chw[:, :height, :width], np.float32(np.nan), where=lost)
    return restored_chw
