"""Tiles to batches of one shape, filled across images. Knows nothing of sessions or files."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from sr_tile.pipeline.thread_pool import ThreadPool
from sr_tile.types import Array, Pixels

Key = TypeVar("Key")


@dataclass(frozen=True)
class Batch(Generic[Key]):
    """Tiles of one shape and whose they are.

    Attributes:
        pixels_nchw: (rows, channels, height, width), see `Engine.run`.
        keys: one for each row.
        exact: whether they are run in float32, where the engine's `run` takes fewer bits.
    """

    pixels_nchw: Pixels[Array, "n c h w"]
    keys: tuple[Key, ...]
    exact: bool = False


class BatchBuilder(Generic[Key]):
    """Collects tiles in their order; a batch leaves when it is full, or shape, number type or precision of tiles change.

    Args:
        size: tiles of a full batch.
        pool: helps to copy tiles.
        empty: makes the arrays of batches, see `Engine.empty`; None: anywhere.

    >>> builder = BatchBuilder(size=2)
    >>> [len(batch.keys) for name in "abc" for batch in builder.add(name, np.zeros((3, 8, 8), np.float32))]
    [2]
    >>> [batch.keys for batch in builder.flush()]
    [('c',)]
    """

    def __init__(
        self, size: int, pool: ThreadPool | None = None, empty: Callable[..., np.ndarray] | None = None
    ) -> None:
        self._size, self._pool, self._empty = size, pool or ThreadPool(1), empty
        self._tiles: list[np.ndarray] = []
        self._keys: list[Key] = []
        self._exact = False

    def add(self, key: Key, tile_chw: Pixels[Array, "c h w"], exact: bool = False) -> list[Batch[Key]]:
        """Add one tile, unchanged until its batch leaves; returns the batches (none, one or two) that are now complete."""
        kind = (tile_chw.shape, tile_chw.dtype, exact)
        others = self._tiles and (self._tiles[0].shape, self._tiles[0].dtype, self._exact) != kind
        done = self.flush() if others else []
        self._exact = exact
        self._tiles.append(tile_chw)
        self._keys.append(key)
        return done + (self.flush() if len(self._tiles) >= self._size else [])

    def flush(self) -> list[Batch[Key]]:
        """The unfinished batch, if there is one."""
        if not self._tiles:
            return []
        tiles, keys = self._tiles, tuple(self._keys)
        self._tiles, self._keys = [], []
        if len(tiles) == 1 and tiles[0].flags.c_contiguous and self._empty is None:
            return [Batch(tiles[0][None], keys, self._exact)]
        pixels = (self._empty or np.empty)((len(tiles), *tiles[0].shape), tiles[0].dtype)
        places = [*itertools.product(range(len(tiles)), range(len(tiles[0])))]
        self._pool.for_each(functools.partial(_copy_plane, pixels, tiles), places)
        return [Batch(pixels, keys, self._exact)]


def _copy_plane(pixels: np.ndarray, tiles: list[np.ndarray], place: tuple[int, int]) -> None:
    pixels[place] = tiles[place[0]][place[1]]
