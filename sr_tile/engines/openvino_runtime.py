"""OpenVINO's runtime, and in which numbers it computes on this processor: found out by computing, not by names."""

import functools
import importlib.metadata
import logging
import sys
import time
from typing import Any

import numpy as np

from sr_tile.errors import one_line
from sr_tile.system.cache import cache_folder, measured_file, recall, remember
from sr_tile.system.cpu import processor_kind

log = logging.getLogger("sr_tile")

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
# int8 stands in the file. What is not quantised there stays float32: in bfloat16 it costs 0.04 dB more, and saves a tenth.
_ROUNDS = 7
_CHANNELS, _SIDE, _LAYERS = 64, 64, 3  # of what is timed: 0.9 billion multiplications, 5 ms of a core


def version() -> str | None:
    """The version of OpenVINO that is installed, without importing it; None where there is none."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def runtime() -> Any:
    """OpenVINO without its telemetry, which would write an identity into the user's home as soon as it is imported.

    It has no switch but a file in the home; where its package cannot be imported, OpenVINO uses a stub of its own.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's form of "not to be had"
    import openvino

    return openvino


@functools.cache
def supports(precision: str) -> bool:
    """Whether OpenVINO multiplies in this precision here: it has kernels for it, and a multiplication shows it.

    Where a processor cannot, OpenVINO takes float32 without a word.
    """
    try:
        if precision.upper() not in _capabilities():
            return False
        return precision in ("fp32", "int8") or _is_narrow(HINTS[precision])
    except Exception as error:  # OpenVINO's exceptions are RuntimeError and others
        log.debug("OpenVINO: %s", one_line(error))
        return False


@functools.cache
def speedup(precision: str) -> float:
    """How many times as fast as in float32 a core convolves in `bf16` or `fp16`: less than once where it only can.

    Fewer bits are not faster by themselves: with AVX512-FP16, and with AVX512-BF16 where AMX is hidden from a virtual
    machine, float32 takes 0.6 of the time; with AMX bfloat16 takes 0.3 of it, with AVX512-BF16 of other makes half. What
    was found is kept in the user's cache, by processor and runtime.
    """
    facts = ("speedup", version(), processor_kind(), *_capabilities())
    path = measured_file(cache_folder("precision"), precision, *facts)
    if (known := recall(path, float)) is not None:
        return known
    taken = _seconds(["f32", HINTS[precision]])
    found = taken["f32"] / taken[HINTS[precision]]
    remember(path, repr(found))
    return found


def _capabilities() -> list[str]:
    return list(runtime().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _is_narrow(hint: str) -> bool:
    """Whether a convolution loses what float32 would keep."""
    ops = runtime().opset13
    value = np.full((1, 16, 8, 8), 1 + 2**-13, np.float32)
    pixels = ops.parameter(value.shape, np.float32)
    weights = ops.constant(np.full((16, 16, 1, 1), 1 / 16, np.float32))
    layer = ops.convolution(pixels, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    model = runtime().Model([ops.relu(layer)], [pixels])
    found = runtime().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})([value])[0]
    return bool(np.abs(found - value).max() > 2**-14)


def _seconds(hints: list[str]) -> dict[str, float]:
    """What some convolutions take on one core, the least of several rounds in which the precisions take turns."""
    ops = runtime().opset13
    value = np.ones((1, _CHANNELS, _SIDE, _SIDE), np.float32)
    layer = pixels = ops.parameter(value.shape, np.float32)
    for number in range(_LAYERS):
        weights = np.random.default_rng(number).standard_normal((_CHANNELS, _CHANNELS, 3, 3), np.float32) / _CHANNELS
        layer = ops.relu(ops.convolution(layer, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1]))
    model = runtime().Model([layer], [pixels])
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    calls = {
        hint: runtime().Core().compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint})
        for hint in hints
    }
    taken = dict.fromkeys(hints, float("inf"))
    for warm in [False, *[True] * _ROUNDS]:
        for hint, call in calls.items():
            begin = time.perf_counter()
            call([value])
            if warm:
                taken[hint] = min(taken[hint], time.perf_counter() - begin)
    return taken
