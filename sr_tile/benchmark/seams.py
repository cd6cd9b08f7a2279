"""The tiled picture against the whole one: how much they differ along the borders of tiles, and away from them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sr_tile.benchmark.cells import Subject
from sr_tile.enhancer import Enhancer
from sr_tile.errors import GeometryError
from sr_tile.models.receptive_field import natural_like
from sr_tile.planner import Settings
from sr_tile.tiling.blending import from_range, to_range
from sr_tile.tiling.grid import Axis

NEAR = 8  # input pixels on either side of a border, or of its ramp, that belong to it


@dataclass(frozen=True)
class Seam:
    """Differences of one overlap, in steps of 1 / 255.

    Attributes:
        subject: the model on its device.
        tile: side of the tiles.
        overlap: pixels two tiles share.
        halo: pixels of it that each discards.
        border_largest: largest difference along borders.
        border_mean: mean difference there.
        away_largest: largest difference elsewhere.
        away_mean: mean difference there.
    """

    subject: Subject
    tile: int
    overlap: int
    halo: int
    border_largest: float
    border_mean: float
    away_largest: float
    away_mean: float


def measure_seams(subject: Subject, tile: int, overlaps: Iterable[int]) -> list[Seam]:
    """Enhance one picture whole and in tiles.

    Args:
        subject: the model on its device; without a fixed tile.
        tile: side of the tiles; two in each direction.
        overlaps: what tiles share, of which those above half a tile are left out; the model's default is measured too.

    Raises:
        GeometryError: the model runs tiles of one size only.
        OutOfMemoryError: the device has no room for the whole picture.
    """
    engine = subject.engine
    if engine.spec.fixed_tile:
        raise GeometryError(
            f"model {engine.spec.name} runs tiles of {engine.spec.fixed_tile} only, so there is no whole to compare with"
        )
    default = Enhancer(engine, settings=Settings(tile=tile, batch=1)).plan.overlap
    wanted = {overlap for overlap in overlaps if overlap <= tile // 2}  # more than half a tile is never sensible
    return [_measure(subject, tile, overlap) for overlap in sorted({*wanted, default})]


def _measure(subject: Subject, tile: int, overlap: int) -> Seam:
    """One picture of two tiles by two that share exactly `overlap`, but for the model's multiple."""
    engine, spec = subject.engine, subject.engine.spec
    multiple, scale = spec.multiple or 1, spec.scale or 1
    enhancer = Enhancer(engine, settings=Settings(tile=tile, overlap=overlap, batch=1))
    side = (2 * tile - overlap) // multiple * multiple
    picture = natural_like(1, spec.channels, side, side)
    whole = from_range(engine.run(to_range(picture, spec.value_range))[0], spec.value_range)
    whole = whole.clip(0, 1).transpose(1, 2, 0)
    tiled = enhancer.enhance(np.ascontiguousarray(picture[0].transpose(1, 2, 0)))
    grid = enhancer.plan.grid(side, side)
    gap = np.abs(tiled.reshape(whole.shape) - whole).max(axis=2) * 255
    near = _near(grid.y, scale)[:, None] | _near(grid.x, scale)
    parts = (gap[near], gap[~near])
    return Seam(
        subject, tile, overlap, grid.y.halo, *(measure(part) for part in parts for measure in (_largest, _mean))
    )


def _largest(values: np.ndarray) -> float:
    return float(values.max(initial=0.0))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


def _near(axis: Axis, scale: int) -> np.ndarray:
    """True for the output pixels of one direction that lie along a border."""
    near = np.zeros(axis.length * scale, bool)
    for cut in axis.cuts:
        reach = NEAR + axis.blend // 2
        near[max(0, cut - reach) * scale : (cut + reach) * scale] = True
    return near
