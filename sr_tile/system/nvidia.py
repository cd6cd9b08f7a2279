"""NVIDIA GPUs as CUDA shows them: asked of the CUDA runtime that ONNX Runtime computes with, by its C interface.

It has the numbers and the memory that calls will meet. NVML numbers GPUs by bus where CUDA goes by speed, knows neither
CUDA_VISIBLE_DEVICES nor the memory of a MIG instance, and is missing under WSL and on Jetson; it is asked only where no
runtime can be.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

from sr_tile.errors import DeviceError

_MAJORS = (13, 12)  # of the CUDA runtime, newest first
_DRIVERS = {13: 580, 12: 525}  # the driver that each of them needs
_CAPABILITIES = {13: (7, 5), 12: (5, 0)}  # the first GPUs that each of them has kernels for
_INSUFFICIENT_DRIVER = 35
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # cudaDevAttrComputeCapability...
_PROPERTIES_BYTES = 4096  # more than any version's cudaDeviceProp, which begins with the name


def driver_installed() -> bool:
    """True where the driver's library is there: without it, no library of CUDA needs to be loaded."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def runtime() -> Any:
    """The CUDA runtime that is loaded already, or else one that the system finds, by ctypes; None without either."""
    for mode in (getattr(os, "RTLD_NOLOAD", 0) | ctypes.DEFAULT_MODE, ctypes.DEFAULT_MODE):
        for major in _MAJORS:
            name = f"cudart64_{major}.dll" if sys.platform == "win32" else f"libcudart.so.{major}"
            with contextlib.suppress(OSError):
                return ctypes.CDLL(name, mode=mode)
    return None


def gpu_count() -> int:
    """GPUs that CUDA may use here, CUDA_VISIBLE_DEVICES included; those of NVML where there is no CUDA runtime."""
    if not driver_installed():
        return 0
    cuda = runtime()
    if cuda is None:
        with contextlib.suppress(DeviceError), _nvml() as nvml:
            return int(nvml.nvmlDeviceGetCount())
        return 0
    count = ctypes.c_int(0)
    return count.value if cuda.cudaGetDeviceCount(ctypes.byref(count)) == 0 else 0


def unusable(index: int) -> str | None:
    """Why GPU `index` cannot be used, and what to do; None where nothing speaks against it."""
    cuda = runtime()
    if cuda is None:
        return None  # the provider says what is missing
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    code = cuda.cudaGetDeviceCount(ctypes.byref(count))
    cuda.cudaRuntimeGetVersion(ctypes.byref(version))
    major = version.value // 1000
    if code == _INSUFFICIENT_DRIVER:
        cuda.cudaDriverGetVersion(ctypes.byref(version))
        known = f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else "nothing"
        return (
            f"the driver knows CUDA up to {known}, and the installed onnxruntime is built for CUDA {major}: install NVIDIA "
            f"driver {_DRIVERS.get(major, 'of this version')} or newer"
        )
    if index >= count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        said = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"CUDA shows {count.value} GPUs here{said}"
    capability = tuple(_attribute(cuda, name, index) for name in (_COMPUTE_MAJOR, _COMPUTE_MINOR))
    if capability < (oldest := _CAPABILITIES.get(major, (0, 0))):
        return (
            f"its compute capability {capability[0]}.{capability[1]} is below {oldest[0]}.{oldest[1]}, where CUDA {major} "
            "begins (Turing; Pascal and Volta are out): install an onnxruntime-gpu that is built for CUDA 12"
        )
    return None


def memory_of(index: int) -> tuple[int, int]:
    """(free, all) bytes of GPU `index`, whoever holds the rest: containers hide which process holds what.

    Raises:
        DeviceError: the GPU does not answer.
    """
    cuda = runtime()
    if cuda is None:
        with _nvml() as nvml:
            found = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
            return int(found.free), int(found.total)
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    with on_device(cuda, index):
        code = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if code:
        raise DeviceError(f"device cuda:{index}: does not tell its memory (CUDA error {code}); look at the driver")
    return free.value, total.value


def is_alive(index: int) -> bool:
    """False where all that this process asks of GPU `index` fails: its context is lost, until the process ends."""
    cuda = runtime()
    if cuda is None:
        return False
    with on_device(cuda, index):
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        return not cuda.cudaDeviceSynchronize() and not cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))


def gpu_name(index: int) -> str:
    """What GPU `index` is called, without blanks; `unknown` where nobody tells."""
    cuda = runtime()
    if cuda is None:
        with contextlib.suppress(DeviceError), _nvml() as nvml:
            return str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(index))).replace(" ", "-")
        return "unknown"
    properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
    if cuda.cudaGetDeviceProperties(properties, index):
        return "unknown"
    return properties.value.decode(errors="replace").replace(" ", "-")


def _attribute(cuda: Any, name: int, index: int) -> int:
    value = ctypes.c_int(0)
    cuda.cudaDeviceGetAttribute(ctypes.byref(value), name, index)
    return value.value


@contextlib.contextmanager
def on_device(cuda: Any, index: int) -> Iterator[None]:
    """GPU `index` as that of this thread, inside."""
    before = ctypes.c_int(0)
    cuda.cudaGetDevice(ctypes.byref(before))
    cuda.cudaSetDevice(index)
    try:
        yield
    finally:
        cuda.cudaSetDevice(before.value)


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """NVML; where it is missing, or does not answer inside, a `DeviceError`."""
    import pynvml

    try:
        pynvml.nvmlInit()
        yield pynvml
    except pynvml.NVMLError as error:
        raise DeviceError(f"NVIDIA's management library does not answer: {error}; look at the driver") from error
