"""Samples that do not end at bytes: of 3, 5 to 7 and 9 to 15 bits, and of fewer than 8 in several channels."""

from dataclasses import dataclass

import numpy as np

_ROWS = 64  # unpacked at a time: each bit takes a byte meanwhile


@dataclass(frozen=True)
class Packed:
    """A row of a TIFF: `width` times `samples` numbers of `bits`, the first in the upper bits of its first byte.

    white_is_zero: numbers count from white to black.
    """

    width: int
    bits: int
    samples: int
    white_is_zero: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, which begins at a byte."""
        return (self.width * self.bits * self.samples + 7) // 8

    def unpack(self, rows_hw: np.ndarray) -> np.ndarray:
        """Numbers over the full range of 8 bits, or of 16 where they have more than 8.

        Args:
            rows_hw: uint8, (height, row_bytes).

        Returns:
            image_hwc: uint8 or uint16, (height, width, samples).
        """
        top, full = 2**self.bits - 1, 255 if self.bits <= 8 else 65_535
        table = np.rint(np.arange(top + 1) * (full / top)).astype(np.uint8 if full == 255 else np.uint16)
        table = table[::-1] if self.white_is_zero else table
        places = 2 ** np.arange(self.bits - 1, -1, -1, dtype=np.uint16)
        count, image_hwc = self.width * self.samples, []
        for start in range(0, len(rows_hw), _ROWS):
            bits = np.unpackbits(rows_hw[start : start + _ROWS], axis=1)[:, : count * self.bits]
            numbers = bits.reshape(len(bits), count, self.bits) @ places
            image_hwc.append(table[numbers].reshape(len(bits), self.width, self.samples))
        return np.concatenate(image_hwc)
