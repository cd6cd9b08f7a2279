"""A model by name, opened: a checkpoint or an ncnn network is exported on the fly, fewer bits are made, each once."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import sr_tile
from sr_tile.engines.base import Engine
from sr_tile.engines.factory import Precision, open_engines
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.export.ncnn.param import is_ncnn
from sr_tile.models import zoo
from sr_tile.system.cache import cache_folder
from sr_tile.system.hashes import sha256_of

log = logging.getLogger("sr_tile")


def find_model(model: str | Path | None = None, scale: float | None = None) -> Path:
    """The ONNX file of a model.

    Args:
        model: a path, or the name of a bundled or pulled model; None chooses by `scale`. A checkpoint (`.pth`, `.pt`,
            `.ckpt`, `.safetensors`) or an ncnn network (`.param` beside its `.bin`) is exported and verified the first
            time, and kept in the cache under the hash of its weights.
        scale: output pixels per input pixel that it must reach, where `model` is None.

    Raises:
        ModelLoadError: there is no such model, or the checkpoint is not understood.
        ModelOutputError: its graph differs from the checkpoint.
        ArgumentError: no bundled model reaches this scale.
    """
    path = zoo.find(model, scale)
    return _exported(path) if path.suffix.lower() in zoo.CHECKPOINT_SUFFIXES or is_ncnn(path) else path


def open_model(
    model: str | Path | None = None,
    scale: float | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    agreement: float = LEAST_PSNR,
    expected_pixels: int | None = None,
) -> list[Engine]:
    """`find_model` and `open_engines`, with the files that a precision needs.

    Args:
        model: see `find_model`.
        scale: see `find_model`.
        device: see `open_engines`.
        precision: `auto`, `fp32`, `bf16`, `fp16`, `int8`.
        agreement: dB from float32 that `auto` keeps at least.
        expected_pixels: see `open_engines`.

    Raises:
        ModelLoadError: no such model.
        DeviceError: a device or a precision that is named cannot be had.
        ArgumentError: there is no such device or precision.
        PrecisionLossError: the model cannot be had in int8.
    """
    path = find_model(model, scale)
    wanted = Precision(precision, agreement)
    return open_engines(path, device, replace(wanted, variants=_variants(path, precision)), expected_pixels)


def _variants(path: Path, precision: str) -> tuple[tuple[str, Path], ...]:
    """Files in fewer bits, where they were asked for by name; converting takes seconds, which `auto` does not."""
    return ((precision, _converted(path, precision)),) if precision in ("int8", "fp16") else ()


def _converted(path: Path, precision: str) -> Path:
    def make(target: Path) -> None:
        from sr_tile.export.precision import convert

        convert(path, target, precision)

    key = f"{sr_tile.__version__}-{sha256_of(path)[:32]}-{precision}"
    return _made_once(cache_folder("converted", key, path.name), f"{path}: converting to {precision}", make)


def _exported(path: Path) -> Path:
    weights = path.with_suffix(".bin") if path.suffix.lower() == ".param" else path
    hashed = sha256_of(weights if weights.is_file() else path)

    def make(target: Path) -> None:
        from sr_tile.export.checkpoint import export  # torch: only where there is a checkpoint

        export(path, target)

    key = f"{sr_tile.__version__}-{hashed[:32]}"
    return _made_once(cache_folder("exported", key, f"{path.stem}.onnx"), f"{path}: exporting to ONNX", make)


def _made_once(target: Path, what: str, make: Callable[[Path], None]) -> Path:
    if not target.is_file():
        log.warning("%s once; the result is kept in the cache", what)
        target.parent.mkdir(parents=True, exist_ok=True)
        make(target)
    return target
