"""A `--device` to an engine: the one place that chooses a runtime."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sr_tile.engines import autoselect, openvino
from sr_tile.engines.base import Engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.providers import PROVIDERS
from sr_tile.errors import ArgumentError, SrTileError

log = logging.getLogger("sr_tile")

# Runtimes beside ONNX Runtime, which knows several devices: a new one is a file like `openvino.py` and a line here.
RUNTIMES: dict[str, Callable[[Path | str], Engine]] = {"openvino": openvino.OpenVinoEngine}


def open_engine(path: Path | str, device: str = "auto", expected_pixels: int | None = None) -> Engine:
    """Open a model on a device.

    On a machine without a GPU, `auto` takes OpenVINO where it is installed and was measured to be faster for this model.
    It measures where nobody did so yet, and the work is large; until then it is ONNX Runtime.

    Args:
        path: the model.
        device: `auto`, `cpu`, `openvino`, `cuda`, `cuda:1`, `tensorrt`, `directml`, `coreml`; only `auto` falls back.
        expected_pixels: pixels of all images to come, None where that is not known.

    Raises:
        ModelLoadError: the file is no model that can be run.
        DeviceError: a device named explicitly cannot be had.
        ArgumentError: there is no such device.
    """
    device = device.strip().lower()
    if device in RUNTIMES:
        return RUNTIMES[device](path)
    if device.partition(":")[0] not in ("auto", *PROVIDERS):
        kinds = ", ".join(["auto", *PROVIDERS, *RUNTIMES])
        raise ArgumentError(f"device {device!r} is not known; choose one of {kinds}, with a number as in cuda:1")
    engine = OnnxEngine(path, device)
    if device != "auto" or engine.device != "cpu" or not openvino.version():
        return engine
    key = autoselect.key_of(engine)
    chosen = autoselect.recall(key)
    if chosen is None:
        if not autoselect.worth_measuring(engine, expected_pixels):
            return engine
        chosen = autoselect.compare(engine, lambda: openvino.OpenVinoEngine(path, engine))
        autoselect.remember(key, chosen)
    log.info("auto: %s; OpenVINO is %.2f x as fast as ONNX Runtime here", chosen.device, chosen.gain)
    if chosen.device != "openvino":
        return engine
    try:
        faster = openvino.OpenVinoEngine(path, engine)
    except SrTileError as error:
        log.warning("%s; falling back to ONNX Runtime", error)
        return engine
    engine.close()
    return faster


def open_engines(path: Path | str, devices: str, expected_pixels: int | None = None) -> list[Engine]:
    """Open one model on each of the devices; all of them or none.

    Args:
        path: the model.
        devices: names as `open_engine` takes them, with commas between; a name may come twice.
        expected_pixels: pixels of all images to come, None where that is not known.

    Raises:
        ModelLoadError: the file is no such model.
        DeviceError: one of the devices cannot be had.
        ArgumentError: one of the names is none, or `auto` is not alone.
    """
    names = [name.strip() for name in devices.split(",")]
    if len(names) > 1 and "auto" in names:
        raise ArgumentError(f"device {devices!r}: auto chooses one device by itself; name each of several")
    with ExitStack() as opened:
        engines: list[Engine] = []
        for name in names:
            engines.append(open_engine(path, name, expected_pixels))
            opened.callback(engines[-1].close)
        opened.pop_all()  # nothing failed: they stay open
    return engines
