"""Float pixels of any range into the range [0, 1] of networks, and back.

What lies between black and white goes in a straight line, what lies beyond by its logarithm, so that a sun or a hot pixel
does not press all else into a few steps. Black and white are 0 and 1, or where more than 1 % of the pixels lie beyond them,
the value that 1 % do. A picture within [0, 1] is left as it is::

    t = (v - black) / (white - black)
    g(t) = t from 0 to 1;  1 + ln(t) above;  -ln(1 - t) below
    u = (g(t) - g(t of least)) / (g(t of largest) - g(t of least))

The slope of g is continuous, and g can be inverted everywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

_BEYOND = 0.01  # of the pixels that may lie beyond black, and beyond white
_SAMPLES = 2**20  # that the quantiles are taken of


@dataclass(frozen=True)
class FloatRange:
    """The range of a picture's colours; alpha has always that of [0, 1].

    Attributes:
        black: t = 0.
        white: t = 1.
        least: u = 0; at most black.
        largest: u = 1; at least white.
        infinite: there are such values.
    """

    black: float = 0.0
    white: float = 1.0
    least: float = 0.0
    largest: float = 1.0
    infinite: bool = False

    def __str__(self) -> str:
        infinite = "; infinite ones become these" if self.infinite else ""
        return f"values from {self.least:g} to {self.largest:g} go to 0 to 1 for the network, and back{infinite}"

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Values of the file to [0, 1], float32; infinite ones to its ends, NaN stays."""
        values = np.clip(values.astype(np.float64), self.least, self.largest)
        low, high = self._ends()
        return ((_bend((values - self.black) / (self.white - self.black)) - low) / (high - low)).astype(np.float32)

    def from_unit(self, image: Any) -> Any:
        """The inverse, for an image of libvips, float."""
        low, high = self._ends()
        bent = image.cast("double") * (high - low) + low
        straight = (bent > 1.0).ifthenelse((bent - 1.0).exp(), (bent < 0.0).ifthenelse(1.0 - (-1.0 * bent).exp(), bent))
        return (straight * (self.white - self.black) + self.black).cast("float")

    def _ends(self) -> tuple[float, float]:
        ends = (np.array([self.least, self.largest]) - self.black) / (self.white - self.black)
        low, high = _bend(ends)
        return float(low), float(high)


def _bend(t: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # NaN
        above, below = 1 + np.log(np.maximum(t, 1)), -np.log1p(np.maximum(-t, 0))
        return np.where(t > 1, above, np.where(t < 0, below, t))


def measure(blocks: Iterable[np.ndarray], pixels: int) -> FloatRange | None:
    """The range of a picture.

    Args:
        blocks: all its rows, (n, width, colours), without alpha.
        pixels: of the picture.

    Returns:
        None where all values that are finite lie within [0, 1].
    """
    step, skip = max(1, pixels // _SAMPLES), 0
    samples, least, largest, infinite = [], 0.0, 1.0, False
    for rows_hwc in blocks:
        values = rows_hwc.reshape(-1, rows_hwc.shape[2])
        finite = values[np.isfinite(values)]
        if finite.size:
            least, largest = min(least, float(finite.min())), max(largest, float(finite.max()))
        infinite = infinite or bool(np.isinf(values).any())
        samples.append(values[skip::step].ravel())
        skip = (skip - len(values)) % step
    if least >= 0.0 and largest <= 1.0 and not infinite:
        return None
    sample = np.concatenate(samples)
    sample = sample[np.isfinite(sample)]
    black, white = np.quantile(sample, (_BEYOND, 1 - _BEYOND)) if sample.size else (0, 1)
    return FloatRange(min(0.0, float(black)), max(1.0, float(white)), least, largest, infinite)
