"""The tiles of one image: the one place that knows what its channels ask of the plan."""

from sr_tile.images import ImageInfo
from sr_tile.planner import Plan
from sr_tile.tiling.channels import Alpha
from sr_tile.tiling.grid import TileGrid


def tile_grid_for(plan: Plan, info: ImageInfo, scale: int, alpha: Alpha) -> TileGrid:
    """The tiles of one image.

    Raises:
        OutOfMemoryError: it is so wide that not even the smallest tiles fit.
    """
    if info.has_alpha and alpha == "bicubic" and scale > 1:
        # Bicubic interpolation looks two pixels around: the same context for every tile, or alpha would show seams.
        plan = plan.with_halo(2)
    return plan.grid_for(info.height, info.width, info.channels, scale)
