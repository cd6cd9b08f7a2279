"""What could be done with given images, and what each would cost: the numbers behind a plan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sr_tile.engines.base import Engine
from sr_tile.models.spec import ModelSpec
from sr_tile.planner.choose_tile_and_batch import MemoryBudget, candidates
from sr_tile.planner.costs import Costs
from sr_tile.planner.plan import Plan
from sr_tile.planner.settings import Settings
from sr_tile.planner.tiles import is_local, plan_tiles


@dataclass(frozen=True)
class Option:
    """One way to cut the images, and its costs.

    Attributes:
        tile: (height, width) at most.
        batch: tiles a call.
        calls: of the network, over all images.
        redundancy: pixels computed over pixels of the images.
        seconds: predicted for all calls; None where nothing was measured.
        call_bytes: memory of the largest call, predicted; None where nothing was measured.
    """

    tile: tuple[int, int]
    batch: int
    calls: int
    redundancy: float
    seconds: float | None
    call_bytes: float | None


def weigh(plan: Plan, sizes: Sequence[tuple[int, int]], costs: Costs | None) -> Option:
    """What a plan makes of images of (height, width) pixels each, one after the other."""
    grids = [plan.grid(*size) for size in sizes]
    tile = max((grid.tile for grid in grids), key=math.prod)
    most = max(min(plan.batch, len(grid)) * math.prod(grid.tile) for grid in grids)
    return Option(
        tile=tile,
        batch=plan.batch,
        calls=sum(-(-len(grid) // plan.batch) for grid in grids),
        redundancy=sum(len(grid) * math.prod(grid.tile) for grid in grids) / sum(math.prod(size) for size in sizes),
        seconds=sum(costs.seconds_of(grid, plan.batch) for grid in grids) if costs else None,
        call_bytes=costs.call_bytes(most) if costs else None,
    )


def alternatives(
    engines: Sequence[Engine], plan: Plan, settings: Settings, sizes: Sequence[tuple[int, int]]
) -> list[Option]:
    """Each square tile with each batch that `make_plan` weighed, fastest first; of those that come to the same, one.

    Args:
        engines: those of `plan`.
        plan: by `make_plan`.
        settings: those of `plan`.
        sizes: (height, width) of the images.
    """
    start = replace(plan_tiles(engines[0].spec, settings), equalised=plan.equalised, width_step=plan.width_step)
    found = candidates(start, settings, MemoryBudget.of(engines, settings), plan.costs)
    weighed = [weigh(replace(option, sides=()), sizes, plan.costs) for option in found]
    different = {(option.tile, option.calls, option.seconds): option for option in weighed}
    return sorted(different.values(), key=lambda option: option.seconds or 0.0)


def reasons(spec: ModelSpec, plan: Plan, settings: Settings) -> list[str]:
    """Why tile, overlap and batch are what they are, a line each."""
    if spec.fixed_tile:
        tile = "the graph takes no other size"
    elif settings.tile != "auto":
        tile = "as you say"
    elif is_local(spec):
        grown = math.prod(plan.tile) > math.prod(plan_tiles(spec, settings).tile)
        unmeasured = "so large that less is computed twice, within the memory there is" if grown else "the recommended"
        tile = "any side will do, for far pixels do not matter to this model; "
        tile += "each image gets the fastest of them" if plan.sides else f"nothing was measured: {unmeasured}"
    elif spec.is_global:
        tile = "recommended by the model, which looks at the whole tile: another size changes the picture; "
        tile += "where it pools, `enhance --exact-pooling` does so over all of the picture"
    else:
        tile = "recommended by the model" if spec.tile else "the default, for the model recommends none"
        tile += "; how far it looks is not known, so that another size might change the picture"
    if settings.overlap != "auto":
        overlap = "as you say"
    elif spec.halo is not None and plan.halo >= spec.halo:
        overlap = f"what the model's measured halo of {spec.halo} asks for"
    elif spec.halo is not None:
        overlap = f"a quarter of the recommended tile, which has no room for the model's halo of {spec.halo}"
    else:
        overlap = "a quarter of the recommended tile, for the model's halo is not known"
    if spec.fixed_batch:
        batch = "the graph takes no other"
    elif settings.batch != "auto":
        batch = "as you say" if plan.batch == settings.batch else "all that --mem-limit leaves room for"
    else:
        batch = "the fastest that was measured and fits" if plan.costs else "by rule: nothing was measured"
    return [f"tile: {tile}", f"overlap {plan.overlap}, halo {plan.halo}: {overlap}", f"batch {plan.batch}: {batch}"]
