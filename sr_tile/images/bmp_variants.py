"""BMPs that Windows and browsers show, and Pillow refuses: colours in any bits (masks), palettes of 2 bits and of odd sizes.

Layout: Windows' BITMAPINFOHEADER to BITMAPV5HEADER, and OS/2's headers of 16 to 64 bytes; pixels that are not compressed.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_PLAIN, _MASKS, _MASKS_WITH_ALPHA = 0, 3, 6
_HEADERS = (16, 40, 52, 56, 64, 108, 124)


@dataclass(frozen=True)
class BmpVariant:
    """What the header says; masks: of red, green, blue and alpha in a pixel, empty for palettes."""

    width: int
    height: int
    bits: int
    upside_down: bool
    pixels_at: int
    masks: tuple[int, ...]
    palette_at: int
    colours: int


def read_header(path: Path) -> BmpVariant | None:
    """The header of a BMP of these kinds; None for all others.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(14 + 124)
    try:
        pixels_at, size, width, height, _, bits = struct.unpack_from("<IIiiHH", head, 10)
        compression, _, _, _, used = struct.unpack_from("<IIiiI", head, 30) if size >= 40 else (_PLAIN, 0, 0, 0, 0)
        if size not in _HEADERS or width < 1 or height == 0:
            return None
        masks: tuple[int, ...] = ()
        if bits in (16, 32) and compression in (_MASKS, _MASKS_WITH_ALPHA):
            alpha = size >= 56 or compression == _MASKS_WITH_ALPHA
            masks = struct.unpack_from("<4I" if alpha else "<3I", head, 54)
        elif compression != _PLAIN or bits not in (1, 2, 4, 8):
            return None
    except struct.error:
        return None
    colours = min(used or 2**bits, 2**bits) if bits <= 8 else 0
    return BmpVariant(width, abs(height), bits, height > 0, pixels_at, masks, 14 + size, colours)


def decode(path: Path, header: BmpVariant) -> np.ndarray:
    """Pixels, from the top.

    Returns:
        image_hwc: uint8, (height, width, 3), or 4 where there is a mask of alpha.

    Raises:
        ValueError: the file ends early.
    """
    row = (header.width * header.bits + 31) // 32 * 4
    with path.open("rb") as file:
        file.seek(header.palette_at)
        palette = np.frombuffer(file.read(4 * header.colours), np.uint8)
        file.seek(header.pixels_at)
        raw = file.read(row * header.height)
    if len(raw) < row * header.height or len(palette) < 4 * header.colours:
        raise ValueError(f"it ends after {len(raw) // row} of {header.height} rows")
    rows = np.frombuffer(raw, np.uint8).reshape(header.height, row)
    rows = rows[::-1] if header.upside_down else rows
    if header.masks:
        numbers = np.ascontiguousarray(rows).view(f"<u{header.bits // 8}")[:, : header.width]
        alpha = header.masks[3:] if any(header.masks[3:]) else ()
        return np.dstack([_channel(numbers, mask) for mask in (*header.masks[:3], *alpha)])
    bits = np.unpackbits(rows, axis=1)[:, : header.width * header.bits].reshape(
        header.height, header.width, header.bits
    )
    table = np.zeros((2**header.bits, 3), np.uint8)
    table[: header.colours] = palette.reshape(-1, 4)[:, 2::-1]
    return table[bits @ (2 ** np.arange(header.bits - 1, -1, -1))]


def _channel(numbers: np.ndarray, mask: int) -> np.ndarray:
    """The bits of a mask over the full range of 8."""
    if not mask:
        return np.zeros(numbers.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift
    return np.rint(((numbers & mask) >> shift) * (255 / top)).astype(np.uint8)
