"""A model by name, opened: a checkpoint or an ncnn network is exported on the fly, fewer bits are made, each once."""

import atexit
import contextlib
import functools
import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import sr_tile
from sr_tile.engines.base import Engine
from sr_tile.engines.factory import Precision, open_engines
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.errors import unexpected
from sr_tile.export.ncnn.param import files_of, is_ncnn
from sr_tile.models import zoo
from sr_tile.system.cache import cache_folder, recall, remember
from sr_tile.system.hashes import sha256_of
from sr_tile.system.stopping import temporary_folder

log = logging.getLogger("sr_tile")


def find_model(model: str | Path | None = None, scale: float | None = None) -> Path:
    """The ONNX file of a model.

    Args:
        model: a path, or the name of a bundled or pulled model; None chooses by `scale`. A checkpoint (`.pth`, `.pt`,
            `.ckpt`, `.safetensors`) or an ncnn network (`.param` beside its `.bin`) is exported and verified the first
            time, and kept in the cache under the hash of its files.
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
    return _made_once(Path("converted", key, path.name), f"{path}: converting to {precision}", make)


def _exported(path: Path) -> Path:
    def make(target: Path) -> None:
        from sr_tile.export.checkpoint import export  # torch: only where there is a checkpoint

        export(path, target)

    hashes = [sha256_of(file)[:32] for file in (files_of(path) if is_ncnn(path) else (path,)) if file.is_file()]
    return _made_once(
        Path("exported", "-".join([sr_tile.__version__, *hashes]), f"{path.stem}.onnx"),
        f"{path}: exporting to ONNX",
        make,
    )


def _made_once(place: Path, what: str, make: Callable[[Path], None]) -> Path:
    """A file in the cache, made where it is not there as it was written; beside it lies its hash."""
    target = cache_folder() / place
    if target.is_file() and recall(_mark(target), str) == sha256_of(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            log.warning("%s once; the result is kept in the cache", what)
    except OSError as error:
        target = _folder_of_this_run() / place
        if target.is_file():
            return target
        log.warning("%s for this run only: the cache cannot be written: %s", what, unexpected(error))
        target.parent.mkdir(parents=True, exist_ok=True)
    make(target)
    remember(_mark(target), sha256_of(target))
    return target


def _mark(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


@functools.cache
def _folder_of_this_run() -> Path:
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(temporary_folder())
