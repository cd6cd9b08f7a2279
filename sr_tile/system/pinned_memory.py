"""Memory of the host that stays where it is (page-locked), so that a GPU copies from and to it by itself.

Copies of other memory go through a small buffer of the driver, piece by piece, and take the calling thread's time. It is
asked of the CUDA runtime that ONNX Runtime computes with. Locking pages takes long, so what is done with is kept and used
again.
"""

import ctypes
import logging
import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from sr_tile.system import nvidia

log = logging.getLogger("sr_tile")

_PORTABLE = 1  # cudaHostAllocPortable: for all GPUs
KEPT = 12  # blocks that nobody uses: a pair for each batch under way in a pipeline with two lanes


class _Byte(ctypes.c_ubyte):
    """Of a block that `PinnedMemory` lent."""


class PinnedMemory:
    """Arrays in page-locked memory; any thread may ask for one, and drop it.

    Args:
        index: of the GPU on whose behalf it is locked.
    """

    def __init__(self, index: int) -> None:
        self._index, self._cuda = index, nvidia.runtime()
        self._lock = threading.RLock()  # dropping an array may happen wherever memory is collected, inside of it too
        self._idle: list[tuple[int, int]] = []  # (bytes, address)
        self._era = 0  # what was lent in another one is not kept
        self._refused = 0  # the error of CUDA, once there was one
        self._said = False

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """An array with whatever is in it; in ordinary memory where no more can be locked, which is said once."""
        lent = self._lend(tuple(shape), np.dtype(dtype))
        return np.empty(shape, dtype) if lent is None else lent

    def moved(self, array: np.ndarray) -> np.ndarray:
        """An array, or its copy in page-locked memory where it lies elsewhere and there is some."""
        lent = None if is_pinned(array) else self._lend(array.shape, array.dtype)
        if lent is None:
            return array
        lent[...] = array
        return lent

    def clear(self) -> None:
        """Unlock what nobody uses now, and the rest once it is dropped; what was refused is tried again."""
        with self._lock:
            self._era += 1
            self._refused = 0
            self._free()

    def _lend(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        count = math.prod(shape)
        with self._lock:
            block, era = self._take(count * dtype.itemsize), self._era
        if block:
            owner: Any = (_Byte * block[0]).from_address(block[1])
            weakref.finalize(owner, self._give, block, era).atexit = False
            return np.frombuffer(owner, dtype, count).reshape(shape)
        if self._refused and not self._said:
            self._said = True
            log.warning(
                "device cuda:%d: no more memory of the host can be locked (CUDA error %d): its copies go through ordinary "
                "memory, which is slower; use a smaller --batch-size, or end other programs",
                self._index,
                self._refused,
            )
        return None

    def _take(self, size: int) -> tuple[int, int] | None:
        """The smallest block at hand that is large enough and not far too large, or a new one."""
        if fitting := [block for block in self._idle if size <= block[0] <= 2 * size]:
            self._idle.remove(block := min(fitting))
            return block
        if self._refused or self._cuda is None or not size:
            return None
        pointer = ctypes.c_void_p()
        with nvidia.on_device(self._cuda, self._index):
            code = self._cuda.cudaHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(size), _PORTABLE)
        if code == 0 and pointer.value:
            return size, pointer.value
        self._cuda.cudaGetLastError()  # or it is found by whoever looks next
        self._refused = code
        self._free()
        return None

    def _give(self, block: tuple[int, int], era: int) -> None:
        with self._lock:
            self._idle.append(block)
            self._free(0 if era != self._era else KEPT)

    def _free(self, kept: int = 0) -> None:
        while len(self._idle) > kept:
            self._cuda.cudaFreeHost(ctypes.c_void_p(self._idle.pop(0)[1]))


def is_pinned(array: np.ndarray) -> bool:
    """Whether an array, or what it is a view of, was lent by a `PinnedMemory`."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return getattr(owner, "_type_", None) is _Byte
