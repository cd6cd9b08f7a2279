"""Tensors of a whole picture between two segments: in memory as far as it goes, else in files."""

import math
import os
import tempfile

import numpy as np

from sr_tile.errors import ImageError
from sr_tile.system.memory import format_size


class Planes:
    """Makes arrays.

    Args:
        limit: bytes of memory; what is more lies in temporary files, which are gone when nobody uses them.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._held = limit, dict[str, np.ndarray]()

    def new(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of float32, not filled.

        Raises:
            ImageError: there is room for it neither in memory nor in the folder of temporary files.
        """
        size = 4 * math.prod(shape)
        in_memory = sum(array.nbytes for array in self._held.values() if not isinstance(array, np.memmap))
        if in_memory + size <= self._limit:
            self._held[name] = np.empty(shape, np.float32)
        else:
            self._held[name] = _in_file(size, shape)
        return self._held[name]

    def keep(self, name: str, array: np.ndarray) -> None:
        """An array that is there already."""
        self._held[name] = array

    def forget(self, name: str) -> None:
        """It is not read any more."""
        self._held.pop(name, None)

    def names(self) -> set[str]:
        """Of all that there is."""
        return set(self._held)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._held[name]

    def __contains__(self, name: str) -> bool:
        return name in self._held


def _in_file(size: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with tempfile.TemporaryFile(prefix="sr-tile-") as file:
            if hasattr(
                os, "posix_fallocate"
            ):  # else a full disk shows where nothing can be raised, and ends the process
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        raise ImageError(
            f"--exact-pooling: {tempfile.gettempdir()} has no room for {format_size(size)} of what lies between two parts "
            f"of the network ({error.strerror}); name another folder in TMPDIR, or give it more memory (--mem-limit)"
        ) from error
