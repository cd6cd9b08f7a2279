"""Calls of sessions on CUDA: from page-locked memory and back to it, and only what is needed comes down the bus.

ONNX Runtime leaves the result on the device; it is copied from there by the CUDA runtime that ONNX Runtime has loaded. What
goes up is copied inside of the call, where it is ordered with the computation and other threads go on: I/O binding would
copy it outside, on whatever device the thread used last, and hold the interpreter.
"""

import ctypes
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sr_tile.engines.time_limit import TimedCalls
from sr_tile.system import nvidia
from sr_tile.system.pinned_memory import PinnedMemory
from sr_tile.tiling.grid import Region

_OWN_STREAM = ctypes.c_void_p(2)  # cudaStreamPerThread
_DOWN = 2  # cudaMemcpyDeviceToHost
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # others are called as NumPy calls them


class _Copy3D(ctypes.Structure):
    """cudaMemcpy3DParms: places are (x in bytes, y, z), pitched memory is (address, bytes of a row, the same, rows)."""

    _fields_ = (
        ("source_array", ctypes.c_void_p),
        ("source_place", ctypes.c_size_t * 3),
        ("source", ctypes.c_size_t * 4),
        ("target_array", ctypes.c_void_p),
        ("target_place", ctypes.c_size_t * 3),
        ("target", ctypes.c_size_t * 4),
        ("extent", ctypes.c_size_t * 3),
        ("kind", ctypes.c_int),
    )


class CudaCalls:
    """Calls of the sessions of one engine; any thread may make them.

    Args:
        runtime: the module `onnxruntime`.
        index: number of the GPU.
        calls: which end in time, or when they are cancelled.

    Attributes:
        memory: for batches and results.
    """

    def __init__(self, runtime: Any, index: int, calls: TimedCalls) -> None:
        self._values = runtime.capi.onnxruntime_pybind11_state
        self._index, self._calls, self._cuda = index, calls, nvidia.runtime()
        self.memory = PinnedMemory(index)
        self._copy_box: Any = getattr(self._cuda, "cudaMemcpy3DAsync", None)  # what stands in for CUDA may lack it
        self._gpu, self._cpu = (
            runtime.OrtDevice.make(*where)._get_c_device() for where in (("cuda", index), ("cpu", 0))
        )

    def run(
        self, session: Any, options: Any, batch: np.ndarray, outputs: int = 1, needed: Sequence[Region] | None = None
    ) -> list[np.ndarray]:
        """The first outputs of a session with one input; raises what `TimedCalls.run` raises.

        Args:
            session: on this GPU.
            options: `RunOptions` of this call alone.
            batch: the input, contiguous; one that does not lie in `memory` is copied there.
            outputs: how many are wanted; the first of several has its channels last, see `with_integer_ends`.
            needed: the pixels that are needed of the first output, for each of its first rows; all of all rows where
                it is None, or where the output has not so many. The rest of these rows is 0.
        """
        feeds, made = self._values.OrtValueVector(), self._values.OrtValueVector()
        batch = self.memory.moved(batch)  # lives until the call ends
        feeds.push_back(self._values.OrtValue.ortvalue_from_numpy(batch, self._cpu))
        names = [output.name for output in session.get_outputs()[:outputs]]
        devices = [self._gpu, *[self._cpu] * (outputs - 1)]
        with self._calls.limited(options, batch):
            session.run_with_ortvaluevector(options, [session.get_inputs()[0].name], feeds, names, made, devices)
        return [self._down(made[0], needed, outputs > 1), *(value.numpy() for value in itertools.islice(made, 1, None))]

    def _down(self, value: Any, needed: Sequence[Region] | None, channels_last: bool) -> np.ndarray:
        """What is needed of a tensor on the device."""
        shape, kind = tuple(value.shape()), value.data_type()
        dtype = np.dtype(_DTYPES.get(kind, kind[7:-1]))
        if not math.prod(shape):
            return np.empty(shape, dtype)
        rows, channels, height, width = shape if len(shape) == 4 else (1, 1, 1, math.prod(shape))
        regions = list(needed or ())
        if channels_last and len(shape) == 4:  # a pixel is so many numbers side by side
            rows, height, channels, width, count = shape[0], shape[1], 1, shape[2] * shape[3], shape[3]
            regions = [Region(r.y, r.x * count, r.height, r.width * count) for r in regions]
        if not 0 < len(regions) <= rows or any(r.y + r.height > height or r.x + r.width > width for r in regions):
            regions = [Region(0, 0, height, width)] * rows
        output = self.memory.empty((len(regions), channels, height, width), dtype)
        first, address = 0, value.data_ptr()
        with nvidia.on_device(self._cuda, self._index):
            try:
                for region, same in itertools.groupby(regions):
                    end = first + len(list(same))
                    self._copy(address + first * output[0].nbytes, output[first:end], region)
                    _clear(output[first:end], region)
                    first = end
            finally:  # nothing may be on its way into an array that is gone
                self._check(self._cuda.cudaStreamSynchronize(_OWN_STREAM))
        return output.reshape(len(regions), *shape[1:]) if len(shape) == 4 else output.reshape(shape)

    def _copy(self, source: int, target: np.ndarray, region: Region) -> None:
        """Begin to copy the region of each plane."""
        rows, channels, height, width = target.shape
        size = target.itemsize
        if self._copy_box is None:
            for plane, y in itertools.product(range(rows * channels), range(region.y, region.y + region.height)):
                offset = ((plane * height + y) * width + region.x) * size
                places = (ctypes.c_void_p(address + offset) for address in (target.ctypes.data, source))
                length = ctypes.c_size_t(region.width * size)
                self._check(self._cuda.cudaMemcpyAsync(*places, length, _DOWN, _OWN_STREAM))
            return
        copy = _Copy3D(kind=_DOWN, extent=(region.width * size, region.height, rows * channels))
        copy.source_place = copy.target_place = (region.x * size, region.y, 0)
        copy.source = (source, width * size, width * size, height)
        copy.target = (target.ctypes.data, width * size, width * size, height)
        self._check(self._copy_box(ctypes.byref(copy), _OWN_STREAM))

    def _check(self, code: int) -> None:
        if code:
            self._cuda.cudaGetLastError()  # or it is found by whoever looks next
            raise RuntimeError(f"CUDA failure {code}: a copy from the device failed")


def _clear(rows: np.ndarray, region: Region) -> None:
    """Put 0 around the region."""
    bottom, right = region.y + region.height, region.x + region.width
    rows[:, :, : region.y] = rows[:, :, bottom:] = 0
    rows[:, :, region.y : bottom, : region.x] = rows[:, :, region.y : bottom, right:] = 0
