"""How the channels of an image meet those of a model.

====================  =========================================  ==========================================
image                 RGB model (3 channels)                     gray model (1 channel)
====================  =========================================  ==========================================
gray                  repeated three times, mean of the three    as it is
RGB                   as it is                                   each channel by itself: three rows a tile
alpha                 `bicubic`: enlarged by bicubic interpolation (at scale 1 that is the alpha unchanged);
                      `model`: like a gray image
====================  =========================================  ==========================================
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sr_tile.types import Array, Float32, Pixels

Alpha = Literal["bicubic", "model"]


@dataclass(frozen=True)
class Part:
    """One row that a tile contributes to a batch.

    Attributes:
        channels: the image's channels that the part reads, and writes again.
        repeat: the one channel goes in three times, and the mean of the three comes out.
    """

    channels: slice
    repeat: bool = False

    def gather(self, tile_chw: Pixels[Array, "C h w"]) -> Pixels[Array, "c h w"]:
        """What the model reads of a tile of the image."""
        picked = tile_chw[self.channels]
        return np.repeat(picked, 3, axis=0) if self.repeat else picked

    def scatter(self, output_chw: Pixels[Array, "c H W"]) -> Pixels[Array, "k H W"]:
        """What of the model's output goes back into `channels`."""
        if not self.repeat:
            return output_chw
        return ((output_chw[0] + output_chw[1] + output_chw[2]) / np.float32(3))[None]


def parts_of(image_channels: int, model_channels: int, alpha: Alpha = "bicubic") -> tuple[Part, ...]:
    """The rows that each tile of an image contributes to a batch.

    Args:
        image_channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.
        model_channels: 1 or 3.
        alpha: who enlarges the alpha channel; `bicubic` leaves it out of the parts.
    """
    colours = 1 if image_channels <= 2 else 3
    if colours == model_channels:
        parts = [Part(slice(0, colours))]
    elif model_channels == 3:
        parts = [Part(slice(0, 1), repeat=True)]
    else:
        parts = [Part(slice(channel, channel + 1)) for channel in range(colours)]
    if image_channels > colours and alpha == "model":
        parts.append(Part(slice(colours, colours + 1), repeat=model_channels == 3))
    return tuple(parts)


def enlarge_bicubic(tile_chw: Float32[Array, "c h w"], scale: int) -> Float32[Array, "c H W"]:
    """Bicubic enlargement by a whole factor, the border pixels repeated outwards.

    The kernel is Keys' with a = -1/2 (IEEE Transactions on Acoustics 29, 1981). A constant stays constant to a
    rounding error, and at scale 1 the tile comes back bit for bit. It reads two pixels around each pixel.

    Args:
        tile_chw: (c, h, w), float32, any range.
        scale: 1 or more.

    Returns:
        (c, h * scale, w * scale), float32; up to 1/8 of a step outside the range of the input.
    """
    if scale == 1:
        return tile_chw.copy()
    return _enlarge_last_axis(_enlarge_last_axis(tile_chw, scale).swapaxes(1, 2), scale).swapaxes(1, 2)


def _enlarge_last_axis(tile: np.ndarray, scale: int) -> np.ndarray:
    length = tile.shape[-1]
    padded = np.pad(tile, ((0, 0), (0, 0), (2, 2)), mode="edge")
    output = np.empty((*tile.shape[:2], length, scale), np.float32)
    for phase in range(scale):
        # Where the centre of this output pixel lies, in input pixels from the centre of the pixel it came from.
        position = (phase + 0.5) / scale - 0.5
        first = -2 if position < 0 else -1
        taps = [np.float32(_keys(position - first - k)) for k in range(4)]
        sections = (padded[..., 2 + first + k : 2 + first + k + length] for k in range(4))
        output[..., phase] = sum(tap * section for tap, section in zip(taps, sections, strict=True))
    return output.reshape(*tile.shape[:2], length * scale)


def _keys(distance: float) -> float:
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0
