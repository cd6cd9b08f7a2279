"""What a network cuts off its border, and which sizes it takes: found by running it.

waifu2x and Real-CUGAN pad nothing inside: their output is `scale` times the input less a border, and only sizes of one
rest modulo 2 or 4 keep that border symmetric. Their programs therefore pad the picture by its edge and cut the output;
here the graph itself does so, and is then exact in scale at every size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sr_tile.errors import ModelLoadError, SrTileError
from sr_tile.models.receptive_field import Picture, Run

FIRST = 64  # pixels; larger than twice any published border
FEW, MANY = 8, 32  # sizes tried; a network that takes all of the few takes all
PERIODS = (1, 2, 4, 8, 16)

Measure = Callable[[int], int]
"""Side of a square picture to the side of what the network makes of it."""


@dataclass(frozen=True)
class Frame:
    """How a picture is padded before the network and cut behind it.

    Attributes:
        scale: output pixels per input pixel.
        border: input pixels to pad at each side.
        period: the padded picture's sides leave `rest` modulo it; more is padded at the right and the bottom.
        rest: see `period`.
        cut: output pixels to cut at the left and the top.
    """

    scale: int
    border: int
    period: int
    rest: int
    cut: int

    @property
    def is_needed(self) -> bool:
        """False where the network keeps its scale at every size by itself."""
        return bool(self.border or self.period > 1)

    def apply(self, run: Run, picture: Picture) -> Picture:
        """Pad a picture with NumPy, run a network, cut its output: what the graph with the frame in it must give.

        Args:
            run: the network alone.
            picture: (n, channels, h, w).

        Returns:
            (n, channels, h * scale, w * scale).
        """
        height, width = picture.shape[2:]
        extra = [(self.rest - 2 * self.border - side) % self.period for side in (height, width)]
        pads = [(0, 0), (0, 0), *((self.border, self.border + more) for more in extra)]
        end = [self.cut + side * self.scale for side in (height, width)]
        return run(np.pad(picture, pads, mode="edge"))[:, :, self.cut : end[0], self.cut : end[1]]


def measure_frame(side: Measure, where: str) -> Frame:
    """The frame of a network.

    Args:
        side: runs the network; what does not run raises a `SrTileError`.
        where: the file, for messages.

    Raises:
        ModelLoadError: its output is no whole multiple of its input less a border.
    """
    sides = _try(side, range(FIRST, FIRST + FEW))
    scale = _slope(side, sides, where)
    borders = {n: scale * n - m for n, m in sides.items()}
    if len(borders) < FEW or len(set(borders.values())) > 1:
        borders = {n: scale * n - m for n, m in _try(side, range(FIRST, FIRST + MANY)).items()}
    for period in PERIODS:
        found: list[tuple[int, int]] = []
        for rest in range(period):
            sizes = [n for n in range(FIRST, FIRST + (FEW if period == 1 else MANY)) if n % period == rest]
            lost = {borders.get(n) for n in sizes}
            if len(lost) == 1 and (border := lost.pop()) is not None and border >= 0 and border % 2 == 0:
                found.append((border, rest))
        if found:
            border, rest = min(found)
            pixels = -(-border // (2 * scale))
            return Frame(scale, pixels, period, rest, scale * pixels - border // 2)
    raise ModelLoadError(f"{where}: its output is no whole multiple of its input less a symmetric border")


def _try(side: Measure, sizes: range) -> dict[int, int]:
    found = {}
    for n in sizes:
        try:
            found[n] = side(n)
        except SrTileError:
            continue
    return found


def _slope(side: Measure, sides: dict[int, int], where: str) -> int:
    for n, m in sides.items():
        gained = side(n + MANY) - m
        if gained >= MANY and gained % MANY == 0:
            return gained // MANY
        raise ModelLoadError(
            f"{where}: {MANY} more pixels in give {gained} more pixels out; the scale must be a whole number from 1 up"
        )
    raise ModelLoadError(f"{where}: runs at no size from {FIRST} to {FIRST + FEW - 1} pixels")
