"""How a picture was treated before, as far as its file tells: JPEG's tables, blocks of an earlier JPEG, noise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_tile.images.reader import ImageReader
from sr_tile.tiling.blending import largest_value
from sr_tile.types import Array

ROWS = 256
"""Rows from the top that are looked at: enough for a median, and soon decoded."""

_HEADER_BYTES = 2**20
_JPEG = b"\xff\xd8\xff"
_STANDARD_LUMA_SUM = 3688  # of the table in Annex K of the JPEG standard, which libraries scale by the quality
_WITHOUT_LENGTH = (0x01, 0xD8, *range(0xD0, 0xD8))  # markers of JPEG that nothing belongs to
_DQT, _SOS = 0xDB, 0xDA
_LUMA_BT601 = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True)
class Condition:
    """Signs of damage.

    Attributes:
        jpeg_quality: 1 to 100, of the file itself; None where it is no JPEG.
        lossy: the file is of another kind that may have lost something and does not tell how much: WebP, AVIF.
        noise: standard deviation in the flatter parts of the picture, of 255; texture everywhere counts as noise.
        blocks: mean step of brightness between blocks of 8 pixels over that inside of them; 1 without a grid.
    """

    jpeg_quality: int | None
    lossy: bool
    noise: float
    blocks: float


def condition_of(path: Path) -> Condition:
    """Look at a file and its first rows.

    Raises:
        ImageReadError: it cannot be read.
    """
    with ImageReader(path, quiet=True) as reader:
        luma = _luma(reader.read_rows(min(ROWS, reader.info.height)))
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    lossy = (start[8:12] == b"WEBP" and start[12:16] != b"VP8L") or start[4:12] in (b"ftypavif", b"ftypavis")
    quality = jpeg_quality(start) if start.startswith(_JPEG) else None
    return Condition(quality, lossy, noise_deviation(luma), block_steps(luma))


def _luma(rows_hwc: Array) -> Array:
    scale = 255 / largest_value(rows_hwc.dtype)
    if rows_hwc.shape[2] < 3:
        return rows_hwc[:, :, 0].astype(np.float32) * np.float32(scale)
    return rows_hwc[:, :, :3].astype(np.float32) @ (_LUMA_BT601 * np.float32(scale))


def jpeg_quality(start: bytes) -> int | None:
    """The quality of a JPEG on the usual scale, by its table for luma (Annex K's, scaled as libjpeg does).

    Args:
        start: the file up to the picture's data.

    Returns:
        1 to 100 (below 20 somewhat too high, for tables end at 255), or None where there is no table.
    """
    at = 2
    while at + 4 <= len(start) and start[at] == 0xFF:
        marker = start[at + 1]
        if marker in _WITHOUT_LENGTH or marker == 0xFF:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(start[at + 2 : at + 4])
        if marker == _DQT and len(start) >= at + 5 + 64 * (1 + (start[at + 4] >> 4)):
            width = 1 + (start[at + 4] >> 4)
            table = np.frombuffer(start, ">u2" if width == 2 else np.uint8, 64, at + 5)
            percent = 100 * float(table.sum()) / _STANDARD_LUMA_SUM
            return max(1, round((200 - percent) / 2 if percent <= 100 else 5000 / percent))
        if marker == _SOS:
            return None
        at += 2 + length
    return None


def noise_deviation(luma_hw: Array) -> float:
    """Standard deviation of white noise, by the diagonal details of Haar's wavelet (Donoho and Johnstone 1994).

    The lower quartile is taken in place of the median: where a quarter of the picture is flat, texture does not count.
    """
    height, width = (n // 2 * 2 for n in luma_hw.shape)
    if not height or not width:
        return 0.0
    a = luma_hw[:height, :width]
    diagonal = (a[::2, ::2] - a[1::2, ::2] - a[::2, 1::2] + a[1::2, 1::2]) / 2
    return float(np.quantile(np.abs(diagonal), 0.25) / 0.3186)


def block_steps(luma_hw: Array) -> float:
    """Mean difference of neighbours at the edges of 8 x 8 blocks, wherever these begin, over the usual difference."""
    ratios = []
    for axis in (0, 1):
        if luma_hw.shape[axis] < 24:
            return 1.0
        steps = np.abs(np.diff(luma_hw, axis=axis)).mean(axis=1 - axis)
        by_place = np.array([steps[place::8].mean() for place in range(8)])
        ratios.append(float(by_place.max() / max(np.median(by_place), 1e-6)))
    return min(ratios)
