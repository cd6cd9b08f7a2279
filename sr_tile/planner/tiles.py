"""Tile, overlap and halo by the user's wish and the model's metadata, before anything is measured.

Which tile a model *must* have, and which it *may* have:

- A fixed size of the graph, and a tile that the user names: must.
- Metadata that show a local network: any of `SIDES`. Far pixels do not matter to it, so larger tiles only save what is
  computed twice, and leave fewer seams. That is a measured `halo` with a bounded `receptive_field`, or with a `seam` of
  less than half an 8-bit step; a `halo` alone, as the bundled models have it; or `pooling: local`, the windows of TLC.
- All others, global pooling above all: the recommended `tile`, near the size the model was trained at, because there the
  tile's size changes what each pixel becomes.

The overlap is what the recommended tile asks for, and stays so at every side: no choice of side makes a seam worse.
"""

import logging
from dataclasses import replace

from sr_tile.errors import GeometryError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner.plan import SMALLEST_TILE, Plan
from sr_tile.planner.settings import Settings
from sr_tile.tiling.grid import round_up

log = logging.getLogger("sr_tile")

DEFAULT_TILE = 256
SIDES = (256, 384, 512, 768, 1024, 1536)  # few, so that slightly less free memory seldom changes the choice


def plan_tiles(spec: ModelSpec, settings: Settings) -> Plan:
    """Tile, overlap and halo by the user's wish, then the model's metadata, then the defaults; batch is 1.

    `sides` are those that the model allows besides; they count for nothing until the plan has `costs`.

    Raises:
        GeometryError: they do not fit together.
    """
    multiple = spec.multiple or 1
    halo = settings.halo if settings.halo is not None else spec.halo
    tile = _tile(spec, settings, multiple)
    if settings.halo is None and halo is not None and 2 * halo > min(tile) // 2:
        halo = None  # a network that looks this far leaves nothing of its tile: blending must do
    if settings.overlap != "auto":
        overlap = settings.overlap
    elif halo is None:
        overlap = min(tile) // 4
    else:
        # Beyond a halo that covers the whole receptive field all tiles agree, and nothing is left to blend.
        overlap = 2 * halo + (halo if int(spec.details.get("receptive_field") or 0) > halo else 0)
    if halo is None:
        halo = overlap // 4
    elif settings.halo is None:
        halo = min(halo, overlap // 2)
    if overlap > min(tile) - multiple:
        raise GeometryError(
            f"overlap {overlap} is too large for tiles of {tile[0]} x {tile[1]} pixels, which advance by {multiple} or "
            f"more; use an overlap of at most {max(0, min(tile) - multiple)}, or a larger tile"
        )
    automatic = settings.tile == "auto" and not spec.fixed_tile
    plan = Plan(
        tile,
        overlap,
        halo,
        multiple,
        fitted=not spec.fixed_tile,
        equalised=automatic,
        padding=spec.padding,
        smallest=1 if spec.fixed_tile else spec.smallest,
    )
    return replace(plan, sides=_sides(spec, plan)) if automatic and not spec.fixed_batch else plan


def _tile(spec: ModelSpec, settings: Settings, multiple: int) -> tuple[int, int]:
    """(height, width) of a tile at most: the graph's, the user's, or the model's."""
    if spec.fixed_tile:
        tile = spec.fixed_tile
        if settings.tile not in ("auto", *tile):
            log.warning(
                "model %s takes tiles of %d x %d only; --tile-size %s is ignored", spec.name, *tile, settings.tile
            )
    elif settings.tile == "auto":
        side = round_up(max(spec.tile or DEFAULT_TILE, spec.smallest, SMALLEST_TILE), multiple)
        tile = (side, side)
    else:
        if settings.tile % multiple:
            raise GeometryError(
                f"tile size {settings.tile} is no multiple of {multiple}, which model {spec.name} needs; "
                f"use {max(1, settings.tile // multiple) * multiple} or {round_up(settings.tile, multiple)}"
            )
        if settings.tile < spec.smallest:
            raise GeometryError(
                f"tile size {settings.tile} is below {spec.smallest}, the least that model {spec.name} takes"
            )
        tile = (settings.tile, settings.tile)
    return tile


def _sides(spec: ModelSpec, plan: Plan) -> tuple[int, ...]:
    """Sides that a tile may have, the recommended one among them; none where there is no choice."""
    if not is_local(spec):
        return ()
    # Where the halo covers all that the model looks at, smaller tiles than recommended give the same picture.
    settled = spec.halo is not None and plan.halo >= spec.halo
    rounded = {round_up(side, plan.multiple) for side in SIDES}
    sides = {side for side in rounded if side > plan.tile[0] or (settled and side >= 4 * plan.overlap)}
    return tuple(sorted({*sides, plan.tile[0]}))


def is_local(spec: ModelSpec) -> bool:
    """Whether the metadata show that far pixels do not matter, so that a tile may be of any size."""
    return spec.details.get("pooling") == "local" or (spec.halo is not None and not spec.is_global)
