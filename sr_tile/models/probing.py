"""What a model file does not say of its network, found by running it: no list of architectures to keep up to date.

A network that pads inside accepts every size and may still work on a grid (pixel-unshuffle, strides, windows): only moving
the origin shows it. Whatever is measured here is what decides whether tiles equal the whole picture.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sr_tile.errors import ModelError, ModelLoadError, ModelOutputError, ModelTimeoutError, OutOfMemoryError
from sr_tile.models.receptive_field import HALF_STEP, Picture, Run, measure, natural_like
from sr_tile.models.spec import ModelSpec
from sr_tile.system.cache import cache_folder, measured_file, recall, remember
from sr_tile.system.hashes import sha256_of
from sr_tile.tiling.blending import from_range, to_range
from sr_tile.tiling.grid import round_up
from sr_tile.tiling.padding import Padding, pad

STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 20, 24, 28, 32, 36, 40, 48, 56, 60, 64, 80, 96, 112, 128)
"""Windows, strides and unshuffle factors that networks have."""
_MOST = 128
"""The largest step of sizes that a graph may want: those that are none of `STEPS` are tried as well."""
CANVAS = 256
"""Side of the pictures on which phase and halo are measured."""
FORMAT = 1  # of the files in the cache
_SMALL = 64
BEYOND = "beyond"
"""In a model's details: the least and the largest value that it gives for a picture of 0-1, where they are far from that."""
_FAR = 2.0  # from the picture, root mean square, of the whole range
_RANGES = ((0.0, 1.0), (0.0, 255.0))


@np.errstate(over="ignore", invalid="ignore")  # an overflow is an answer too
def probe(run: Run, spec: ModelSpec, channels: Iterable[int]) -> ModelSpec:
    """`spec` with all that it leaves open: sizes and channels that the graph takes, scale, range, grid, padding, halo.

    Args:
        run: the network, (1, channels, h, w) in its own range of values; raises `ModelError` where it does not take them.
        spec: what the file says. A multiple that it names is believed, and so are padding, range and halo then.
        channels: of the picture, to be tried in this order.

    Raises:
        ModelError: what the network said to the first size, where it takes none.
    """
    declared = spec.multiple
    spec, step = _accepted(
        run, spec, channels, (declared,) if declared else (1,) if spec.fixed_tile else range(1, _MOST + 1)
    )
    if declared:
        return spec
    run = _of_one_scale(run, spec)
    if not spec.fixed_tile:
        spec = replace(spec, smallest=_smallest(run, spec, step))
    if spec.value_range == _RANGES[0]:
        value_range, beyond = _range(run, spec, step)
        spec = replace(spec, value_range=value_range, details={**spec.details, **({BEYOND: beyond} if beyond else {})})
    unit = in_unit_range(run, spec.value_range)
    side = round_up(max(CANVAS, spec.smallest), step)
    spec = replace(spec, multiple=phase(unit, spec.channels, spec.scale or 1, step, spec.fixed_tile or (side, side)))
    if spec.fixed_tile:
        return spec
    spec = replace(spec, padding=padding(unit, spec, step))
    if spec.halo is None:
        found = measure(unit, spec.channels, spec.scale or 1, spec.multiple or 1, canvas=side)
        facts: dict[str, Any] = {"receptive_field": found.receptive_field, "seam": found.seam}
        spec = replace(spec, halo=found.halo, details={**spec.details, **facts})
    return spec


def probed(path: Path, spec: ModelSpec, find: Callable[[], ModelSpec]) -> ModelSpec:
    """What `find` found for a file, from the cache where it was found before; a cache that fails is no error.

    Args:
        path: the model.
        spec: what the file says; only what it leaves open is taken from the cache.
        find: runs the network.
    """
    try:
        file = measured_file(cache_folder("probed"), FORMAT, sha256_of(path), spec.to_metadata())
    except OSError:
        return find()
    if known := recall(file, lambda text: _read(text, spec.name)):
        names = ("scale", "channels", "multiple", "halo", "value_range", "padding", "smallest")
        return replace(spec, details=known.details, **{name: getattr(known, name) for name in names})
    found = find()
    remember(file, found.to_metadata())
    return found


def _read(text: str, name: str) -> ModelSpec:
    try:
        spec = ModelSpec.from_metadata(text, name)
    except ModelError as error:
        raise ValueError from error
    if spec.scale is None or spec.multiple is None or "channels" not in json.loads(text):
        raise ValueError("less than what is found")
    return spec


def in_unit_range(run: Run, value_range: tuple[float, float]) -> Run:
    """The network from and to pictures in the range [0, 1]."""
    return lambda picture: from_range(run(to_range(picture, value_range)), value_range)


def phase(run: Run, channels: int, scale: int, step: int, size: tuple[int, int]) -> int:
    """The least number of pixels by which the picture can move, in y and x at once, and the result only moves with it.

    Args:
        run: (1, channels, *size) to the same times `scale`, range [0, 1].
        channels: of the picture.
        scale: output pixels per input pixel.
        step: sizes are multiples of it, and so is the answer.
        size: (height, width) of the pictures that are run.
    """
    moves = [move for move in sorted({*STEPS, step}) if move % step == 0 and 2 * move <= min(size)] or [step]
    if min(size) < 4 * step:
        return step  # nothing is far from the borders
    picture = natural_like(1, channels, *(side + moves[-1] for side in size))
    still = run(np.ascontiguousarray(picture[..., : size[0], : size[1]]))
    differences: list[float] = []
    for move in moves:
        moved = run(np.ascontiguousarray(picture[..., move : move + size[0], move : move + size[1]]))
        y, x = (_centre(side, move, scale) for side in size)
        back = move * scale
        here = still[..., y, x]
        there = moved[..., y.start - back : y.stop - back, x.start - back : x.stop - back]
        differences.append(_largest(here - there))
        if differences[-1] < HALF_STEP:
            return move
    # All of the picture acts on every pixel, as with global pooling: the least that is as good as any.
    return next(move for move, found in zip(moves, differences, strict=True) if found <= 2 * min(differences))


def padding(run: Run, spec: ModelSpec, step: int = 1) -> Padding:
    """How the network fills the last cell of its grid where a picture ends inside.

    Args:
        run: the network, range [0, 1].
        spec: scale, channels and multiple are known.
        step: sizes that the graph takes are multiples of it.
    """
    multiple, scale = spec.multiple or 1, spec.scale or 1
    if multiple == step:
        return "replicate"  # the graph takes whole cells only: ours to choose
    whole = round_up(max(_SMALL, 2 * spec.smallest), multiple)
    height, width = whole + step, whole + multiple - step
    picture = natural_like(1, spec.channels, height, width)
    expected = run(picture)
    found: dict[Padding, float] = {}
    for kind in get_args(Padding):
        if kind != "own":
            padded = pad(picture[0].transpose(1, 2, 0), whole + multiple, whole + multiple, multiple, kind)
            result = run(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
            found[kind] = _largest(result[..., : height * scale, : width * scale] - expected)
    best = min(found, key=lambda kind: found[kind])
    return best if found[best] < HALF_STEP else "own"


def _largest(differences: Picture) -> float:
    """The largest of them; what is no number differs by infinity."""
    return float(np.nan_to_num(np.abs(differences), nan=np.inf, posinf=np.inf).max())


def _centre(side: int, move: int, scale: int) -> slice:
    """Where both pictures are far from their borders, in output pixels of the one that stayed."""
    margin = (side - move) // 4
    return slice((move + margin) * scale, (side - margin) * scale)


def _accepted(run: Run, spec: ModelSpec, channels: Iterable[int], steps: Iterable[int]) -> tuple[ModelSpec, int]:
    """The first channels and the least step of sizes that the graph takes, and the scale."""
    failure: ModelError | None = None
    for count in channels:
        for step in steps:
            cells = _SMALL // step + 1 | 1
            height, width = spec.fixed_tile or (step * cells, step * (cells + 2))
            batch = np.full((1, count, height, width), 0.5, np.float32)
            try:
                scale = _scale_of(spec.name, batch.shape, run(batch).shape)
            except (OutOfMemoryError, ModelTimeoutError):
                raise  # no other size would end
            except ModelError as error:
                failure = failure or error
            else:
                if spec.scale not in (None, scale):
                    raise ModelLoadError(
                        f"model {spec.name}: its metadata say scale {spec.scale}, and running it shows {scale}; export the "
                        f"model again, or write scale {scale} into its metadata"
                    )
                return replace(spec, scale=scale, channels=count), step
    raise failure or ModelLoadError(f"model {spec.name}: no size was tried")


def _of_one_scale(run: Run, spec: ModelSpec) -> Run:
    """The network, refused where the scale found does not hold for every picture: a branch may hang on what it shows."""

    def checked(picture: Picture) -> Picture:
        result = run(picture)
        if result.shape != (*picture.shape[:2], *(side * (spec.scale or 1) for side in picture.shape[2:])):
            raise ModelOutputError(
                f"model {spec.name}: x{spec.scale} of (N, C, H, W) = {picture.shape} came back as {result.shape}; its scale "
                "hangs on the picture, export the model again"
            )
        return result

    return checked


def _scale_of(name: str, shape: tuple[int, ...], output: tuple[int, ...]) -> int:
    scale = output[2] // shape[2] if len(output) == 4 else 0
    if scale < 1 or output != (*shape[:2], shape[2] * scale, shape[3] * scale):
        raise ModelLoadError(
            f"model {name}: (N, C, H, W) = {shape} came back as {output}; sr-tile needs the same number "
            "of rows and channels, and both sides times one whole number"
        )
    return scale


def _smallest(run: Run, spec: ModelSpec, step: int) -> int:
    """The least side that the graph takes: networks that reflect inside need more pixels than they reflect."""

    def takes(cells: int) -> bool:
        side = cells * step
        try:
            result = run(np.full((1, spec.channels, side, side), 0.5, np.float32))
        except ModelTimeoutError:
            raise
        except ModelOutputError:
            return False
        return bool(np.isfinite(result).all())

    fails, works = 0, _SMALL // step + 1
    if takes(1):
        return step
    while works - fails > 1:
        middle = (works + fails) // 2
        fails, works = (fails, middle) if takes(middle) else (middle, works)
    return works * step


def _range(run: Run, spec: ModelSpec, step: int) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """The range of values in which the network gives its picture back: by far better in 0-255, or else 0-1.

    And the least and the largest value that it gives for 0-1, where neither is anything like it.
    """
    scale = spec.scale or 1
    side = round_up(max(_SMALL, spec.smallest), step)
    picture = natural_like(1, spec.channels, *(spec.fixed_tile or (side, side)))
    errors, values = [], []
    for value_range in _RANGES:
        result = in_unit_range(run, value_range)(picture)
        values.append((float(result.min()), float(result.max())))
        small = result.reshape(*picture.shape[:3], scale, picture.shape[3], scale).mean(axis=(3, 5))
        errors.append(float(np.sqrt(np.mean(np.square(small - picture), dtype=np.float64))))
    found = _RANGES[1] if errors[1] < 0.1 and 4 * errors[1] < errors[0] else _RANGES[0]
    return found, values[0] if min(errors) > _FAR else None
