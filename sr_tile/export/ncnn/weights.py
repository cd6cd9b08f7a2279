"""The weights of an ncnn network: one flat file, read in the order of the layers.

A tensor of "tagged" weights begins with four bytes that say how its numbers are stored: float32, float16, int8, or
indices into a table of 256 floats; each is padded to four bytes. Biases, slopes and scales are plain float32.
Source: `ModelBinFromDataReader::load` of ncnn, as its documentation describes it.
"""

from pathlib import Path

import numpy as np

from sr_tile.errors import ModelLoadError
from sr_tile.export.ncnn.param import Layer
from sr_tile.system.plain_file import read_plain

FLOAT16 = 0x01306B47
INT8 = 0x000D4B38
FLOAT32_KEPT = 0x0002C056  # float32 that ncnn must not compress
Weights = np.ndarray


class WeightReader:
    """Hands out the numbers of a `.bin` file, one tensor after the other.

    Raises:
        ModelLoadError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        try:
            self._data = read_plain(path)
        except OSError as error:
            raise ModelLoadError(
                f"{path}: {error.strerror or error}; an ncnn network is a `.param` and a `.bin` of the same name"
            ) from None

    @property
    def left(self) -> int:
        """Bytes that nobody asked for yet."""
        return len(self._data) - self._offset

    def plain(self, layer: Layer, count: int) -> Weights:
        """`count` float32 without a tag.

        Raises:
            ModelLoadError: the file ends before.
        """
        return self._floats(layer, count)

    def tagged(self, layer: Layer, count: int) -> tuple[Weights, bool]:
        """(count float32, whether they were stored as int8 and wait for their scales).

        Raises:
            ModelLoadError: the file ends before, or its tag is unknown.
        """
        tag = int(np.frombuffer(self._take(layer, 4), "<u4")[0])
        if tag == FLOAT16:
            return _finite(layer, self._array(layer, count, "<f2").astype(np.float32), self._path), False
        if tag == INT8:
            return self._array(layer, count, "i1").astype(np.float32), True
        if tag in (0, FLOAT32_KEPT):
            return self._floats(layer, count), False
        if sum(tag.to_bytes(4, "little")):
            table = self._floats(layer, 256)
            return table[self._array(layer, count, "u1")], False
        return self._floats(layer, count), False

    def _floats(self, layer: Layer, count: int) -> Weights:
        return _finite(layer, self._array(layer, count, "<f4"), self._path)

    def _array(self, layer: Layer, count: int, dtype: str) -> Weights:
        if count < 1:
            layer.refuse(f"announces {count} weights; expected 1 or more")
        size = count * np.dtype(dtype).itemsize
        values = np.frombuffer(self._take(layer, size), dtype)
        self._offset += min(-size % 4, self.left)
        return values

    def _take(self, layer: Layer, size: int) -> bytes:
        if size > self.left:
            layer.refuse(f"{self._path.name} ends before its weights: {size} bytes wanted, {self.left} left")
        self._offset += size
        return self._data[self._offset - size : self._offset]


def _finite(layer: Layer, values: Weights, path: Path) -> Weights:
    if not np.isfinite(values).all():
        layer.refuse(f"its weights in {path.name} hold values that are no numbers")
    return values
