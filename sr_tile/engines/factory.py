"""A `--device` and a `--precision` to an engine: the one place that chooses a runtime."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from sr_tile.engines import openvino, openvino_runtime
from sr_tile.engines.base import Engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.precision import LEAST_PIXELS, LEAST_PSNR, PRECISIONS, AdaptiveEngine, Candidate
from sr_tile.engines.providers import PROVIDERS
from sr_tile.errors import ArgumentError, DeviceError

# Runtimes beside ONNX Runtime, which knows several devices: a new one is a file like `openvino.py` and a line here.
RUNTIMES: dict[str, Callable[..., Engine]] = {"openvino": openvino.OpenVinoEngine}
NARROW = ("int8", "bf16", "fp16")
# What `auto` tries, the most arithmetic first. Not int8, which is farther from float32 than `LEAST_PSNR` allows.
TRIED = ("bf16", "fp16")
LEAST_SPEEDUP = 1.25  # for which `auto` takes fewer bits; what was seen is below 0.7 or above 1.8, so no clock decides


@dataclass(frozen=True)
class Precision:
    """In how many bits a network is run.

    Attributes:
        name: one of `precision.PRECISIONS`; `auto` takes fewer than 32 where an image bears them.
        bound: for `auto`, the dB from float32 that are kept at least.
        variants: files of the same model in fewer bits, by precision: what cannot be had from the file itself.
    """

    name: str = "fp32"
    bound: float = LEAST_PSNR
    variants: tuple[tuple[str, Path], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise ArgumentError(f"precision {self.name!r} is not known; choose one of {', '.join(PRECISIONS)}")

    def file(self, path: Path, precision: str) -> Path | None:
        """The file to run in a precision; None where there is none."""
        return dict(self.variants).get(precision, None if precision == "int8" else path)


FLOAT32 = Precision()


def open_engine(
    path: Path | str, device: str = "auto", precision: Precision = FLOAT32, expected_pixels: int | None = None
) -> Engine:
    """Open a model on a device.

    On a processor, `auto` as the precision runs float32 by ONNX Runtime, and what an image bears in fewer bits by OpenVINO.

    Args:
        path: the model, in float32.
        device: `auto`, `cpu`, `openvino`, `cuda`, `cuda:1`, `tensorrt`, `directml`, `coreml`; only `auto` falls back.
        precision: in how many bits.
        expected_pixels: pixels of all images to come, None where that is not known.

    Raises:
        ModelLoadError: the file is no model that can be run.
        DeviceError: a device or a precision named explicitly cannot be had.
        ArgumentError: there is no such device.
    """
    path, device = Path(path), device.strip().lower()
    if device.partition(":")[0] not in ("auto", *PROVIDERS, *RUNTIMES):
        kinds = ", ".join(["auto", *PROVIDERS, *RUNTIMES])
        raise ArgumentError(f"device {device!r} is not known; choose one of {kinds}, with a number as in cuda:1")
    if precision.name in NARROW:
        return _open_narrow(path, device, precision)
    engine = RUNTIMES[device](path) if device in RUNTIMES else OnnxEngine(path, device)
    if precision.name == "fp32":
        return engine
    if expected_pixels is not None and expected_pixels < LEAST_PIXELS:
        return _explained(engine, engine.precision, "so little work pays for no trial of fewer bits")
    on_processor = device in ("auto", "openvino") and engine.uses_host_memory
    if not on_processor or not openvino_runtime.version() or not _bears_fewer(engine):
        return _explained(engine, engine.precision, "fewer bits are not tried with this device and model")
    rows, step = openvino.parallel_rows(), openvino.WIDTH_STEP
    candidates = [Candidate(name, partial(_open_faster, path, engine, name), rows, step) for name in TRIED]
    return AdaptiveEngine(engine, candidates, precision.bound)


def _bears_fewer(engine: Engine) -> bool:
    """Whether the model is in float32, and takes samples of any size."""
    is_narrow = engine.number_type != np.float32 or engine.spec.details.get("precision")
    return not is_narrow and not engine.spec.fixed_tile


def _open_faster(path: Path, reader: Engine, precision: str) -> Engine:
    """In a precision that this processor computes faster than float32.

    Raises:
        DeviceError: it does not, or has not got it.
    """
    if not openvino_runtime.supports(precision):
        raise DeviceError("this processor has not got it")
    if (found := openvino_runtime.speedup(precision)) < LEAST_SPEEDUP:
        raise DeviceError(f"{found:.2f} times as fast as float32 on this processor, which is less than {LEAST_SPEEDUP}")
    return openvino.OpenVinoEngine(path, reader, precision)


def _open_narrow(path: Path, device: str, precision: Precision) -> Engine:
    """In a precision that was asked for by name.

    Raises:
        DeviceError: the device has not got it.
    """
    name, file = precision.name, precision.file(path, precision.name)
    reason = f"asked for by --precision {precision.name}"
    if device in ("auto", "openvino") and file and openvino_runtime.version() and openvino_runtime.supports(name):
        return _explained(openvino.OpenVinoEngine(file, precision=name), name, reason)
    if device != "openvino" and (by_file := dict(precision.variants).get(name)):
        engine = OnnxEngine(by_file, device)
        if name == "int8" or not engine.uses_host_memory:  # on processors ONNX Runtime multiplies float16 as float32
            return _explained(engine, name, reason)
        engine.close()
    hint = "" if openvino_runtime.version() else "; install sr-tile[openvino], which has it on many processors"
    raise DeviceError(f"device {device}: has no {name} here{hint}; use --precision auto, which takes what there is")


def _explained(engine: Engine, name: str, reason: str) -> Engine:
    engine.precision, engine.why = name, reason  # type: ignore[misc]
    return engine


def open_engines(
    path: Path | str, devices: str, precision: Precision = FLOAT32, expected_pixels: int | None = None
) -> list[Engine]:
    """Open one model on each of the devices; all of them or none.

    Args:
        path: the model.
        devices: names as `open_engine` takes them, with commas between; a name may come twice.
        precision: in how many bits; several devices stay with float32 where it is `auto`.
        expected_pixels: pixels of all images to come, None where that is not known.

    Raises:
        ModelLoadError: the file is no such model.
        DeviceError: one of the devices cannot be had.
        ArgumentError: one of the names is none, or `auto` is not alone.
    """
    names = [name.strip() for name in devices.split(",")]
    if len(names) > 1 and "auto" in names:
        raise ArgumentError(f"device {devices!r}: auto chooses one device by itself; name each of several")
    if len(names) > 1 and precision.name == "auto":
        precision = replace(precision, name="fp32")
    with ExitStack() as opened:
        engines: list[Engine] = []
        for name in names:
            engines.append(open_engine(path, name, precision, expected_pixels))
            opened.callback(engines[-1].close)
        opened.pop_all()  # nothing failed: they stay open
    return engines
