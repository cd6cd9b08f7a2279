"""Tensors of a whole picture between two segments: in memory as far as it goes, else in files."""

import math
import tempfile

import numpy as np


class Planes:
    """Makes arrays.

    Args:
        limit: bytes of memory; what is more lies in temporary files, which are gone when nobody uses them.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._held = limit, dict[str, np.ndarray]()

    def new(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of float32, not filled."""
        size = 4 * math.prod(shape)
        in_memory = sum(array.nbytes for array in self._held.values() if not isinstance(array, np.memmap))
        if in_memory + size <= self._limit:
            self._held[name] = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile(prefix="sr-tile-") as file:
                self._held[name] = np.memmap(file, np.float32, "w+", shape=shape)
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
