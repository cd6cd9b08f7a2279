"""The tiles of one image, and what becomes of its size: what the plan and the wishes of the user mean for it."""

from dataclasses import replace

from sr_tile.errors import ArgumentError, OutOfMemoryError
from sr_tile.images import ImageInfo, Reduction, TargetSize
from sr_tile.planner import Plan
from sr_tile.tiling.channels import Alpha
from sr_tile.tiling.grid import TileGrid


def tile_grid_for(plan: Plan, info: ImageInfo, scale: int, alpha: Alpha, name: str = "image") -> TileGrid:
    """The tiles of one image.

    Raises:
        OutOfMemoryError: it is so wide that not even the smallest tiles fit.
    """
    if info.has_alpha and alpha == "bicubic" and scale > 1:
        # Bicubic interpolation looks two pixels around: the same context for every tile, or alpha would show seams.
        plan = plan.with_halo(2)
    try:
        return plan.grid_for(info.height, info.width, info.channels, scale)
    except OutOfMemoryError as error:
        raise OutOfMemoryError(f"{name}: {error}") from None


def result_of(info: ImageInfo, scale: int, size: TargetSize, name: str = "image") -> ImageInfo:
    """The result of a network that enlarges by `scale`, with the reduction that brings it to the wanted size.

    A picture that is to become smaller is not enlarged before: its own pixels are reduced, and no network sees them. One
    whose network leaves the size alone goes through it all the same.

    Raises:
        ArgumentError: the network does not reach the size.
    """
    target = size.of(info.height, info.width) or (info.height * scale, info.width * scale)
    if is_only_reduced(info, scale, size):
        scale = 1
    full = info if scale == 1 else info.resized(info.height * scale, info.width * scale)
    if target == (full.height, full.width):
        return full
    if target[0] > full.height or target[1] > full.width:
        raise ArgumentError(
            f"{name}: {target[1]} x {target[0]} pixels are wanted, and the network reaches {full.width} x {full.height} at "
            "most: choose a model that enlarges more, or a smaller size"
        )
    return replace(full, reduction=Reduction(*target, linear=size.linear))


def is_only_reduced(info: ImageInfo, scale: int, size: TargetSize) -> bool:
    """Whether an enlarging network has nothing to do: the result is to be smaller than the picture."""
    target = size.of(info.height, info.width)
    if target is None or scale == 1:
        return False
    return target[0] <= info.height and target[1] <= info.width and target != (info.height, info.width)
