"""A model by name, opened: a checkpoint or an ncnn network is exported on the fly, fewer bits are made, each once."""

import atexit
import contextlib
import functools
import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import sr_tile
from sr_tile.engines.base import Engine
from sr_tile.engines.factory import Precision, open_engines
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.errors import ArgumentError, unexpected
from sr_tile.export.ncnn.param import files_of, is_ncnn
from sr_tile.models import zoo
from sr_tile.models.listing import facts
from sr_tile.system.cache import cache_folder, recall, remember
from sr_tile.system.folders import make_folders
from sr_tile.system.hashes import sha256_of
from sr_tile.system.stopping import temporary_folder

RECIPE = 3
"""Raised with each change of what `export` or `convert` writes: what an earlier one left in the cache is not taken."""

log = logging.getLogger("sr_tile")

Model: TypeAlias = str | Path | Engine
"""A network, by name or open."""


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


def scale_of(model: str | Path) -> int:
    """Output pixels per input pixel of a model; what its file does not say is measured.

    Raises:
        ModelLoadError: no such model.
    """
    if said := facts(find_model(model)).scale:
        return said
    with contextlib.closing(open_model(model, device="cpu")[0]) as engine:
        return engine.spec.scale or 1


def most_in_turn(steps: Sequence[str | Path]) -> int:
    """By how much models in turn enlarge at most: the last of those that enlarge may run twice."""
    scales = [scale_of(step) for step in steps]
    return math.prod(scales) * next((scale for scale in reversed(scales) if scale > 1), 1)


def models_reaching(steps: Sequence[str | Path], factor: float | None) -> list[str | Path]:
    """Models one after the other that reach a factor: those named, the last that enlarges twice where that takes it.

    Args:
        steps: the models that were named; none takes bundled ones.
        factor: output pixels per input pixel; None is any.

    Raises:
        ModelLoadError: no such model.
        ArgumentError: two times do not reach it.
    """
    if not steps:
        first, *further = zoo.reaching_in_turn(factor or min(zoo.DEFAULT))
        return [zoo.DEFAULT[first], *(zoo.CLEAN[each] for each in further)]  # what the first one made is clean
    if factor is None or factor <= 1:
        return list(steps)
    scales = [scale_of(step) for step in steps]
    reached, enlarging = math.prod(scales), [index for index, scale in enumerate(scales) if scale > 1]
    if factor <= reached or not enlarging:
        return list(steps)
    again = enlarging[-1]
    last, name = Path(steps[again]).stem, ",".join(Path(step).stem for step in steps)
    if factor > (twice := most_in_turn(steps)):
        raise ArgumentError(
            f"model {name} enlarges by {reached}, and by {twice} where {last} runs twice, not by {factor:g}, which is asked "
            "for as well: twice is the most; leave out the scale, or choose another model"
        )
    what = "" if factor == twice else ", and the result is reduced"
    log.warning("model %s enlarges by %d: for %g, %s runs twice%s", name, reached, factor, last, what)
    return [*steps[: again + 1], *steps[again:]]


def _variants(path: Path, precision: str) -> tuple[tuple[str, Path], ...]:
    """Files in fewer bits, where they were asked for by name; converting takes seconds, which `auto` does not."""
    return ((precision, _converted(path, precision)),) if precision in ("int8", "fp16") else ()


def _converted(path: Path, precision: str) -> Path:
    def make(target: Path) -> None:
        from sr_tile.export.precision import convert

        convert(path, target, precision)

    key = f"{sha256_of(path)[:32]}-{precision}"
    return _made_once("converted", key, path.name, f"{path}: converting to {precision}", make)


def _exported(path: Path) -> Path:
    def make(target: Path) -> None:
        from sr_tile.export.checkpoint import export  # torch: only where there is a checkpoint

        export(path, target)

    hashes = [sha256_of(file)[:32] for file in (files_of(path) if is_ncnn(path) else (path,)) if file.is_file()]
    return _made_once("exported", "-".join(hashes), f"{path.stem}.onnx", f"{path}: exporting to ONNX", make)


def _made_once(kind: str, key: str, name: str, what: str, make: Callable[[Path], None]) -> Path:
    """A file in the cache, made where it is not there as it was written; beside it lies its hash."""
    place = Path(kind, f"{sr_tile.__version__}-{RECIPE}-{key}", name)
    target = cache_folder() / place
    if target.is_file() and recall(_mark(target), str) == sha256_of(target):
        return target
    try:
        make_folders(target.parent)
        with tempfile.TemporaryFile(dir=target.parent):
            log.warning("%s once; the result is kept in the cache", what)
    except OSError as error:
        target = _folder_of_this_run() / place
        if target.is_file():
            return target
        log.warning("%s for this run only: the cache cannot be written: %s", what, unexpected(error))
        make_folders(target.parent)
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


def steps_of(model: Model | Sequence[Model] | None) -> list[str | Path]:
    """The models of a chain, in their order: a list of names, or one with commas that is no file; none for engines."""
    if isinstance(model, str) and "," in model and not Path(model).exists():
        return [name.strip() for name in model.split(",")]
    names = list(model) if isinstance(model, list | tuple) else [model]
    return [name for name in names if isinstance(name, str | Path)]
