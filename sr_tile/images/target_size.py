"""The size that a result is to have, said in one of the ways in which people say it."""

import math
import numbers
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from sr_tile.errors import ArgumentError


@dataclass(frozen=True)
class TargetSize:
    """One wish for the size of a result; all but a wish for both sides keep the proportions. Nothing said: the model's.

    Attributes:
        scale: output pixels per input pixel in each direction, any number above 0.
        width: of the result.
        height: of the result.
        fit: (height, width) of a box that the result fills as far as its proportions allow.
        max_side: of the result's longer side.
        min_side: of the result's shorter side.
        megapixels: of the result, 1 = 1,000,000 pixels.
        linear: reduce in linear light (sRGB's curve), not in the values of the file.

    Raises:
        ArgumentError: two wishes, or one that no picture has.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None
    max_side: int | None = None
    min_side: int | None = None
    megapixels: float | None = None
    linear: bool = False

    def __post_init__(self) -> None:
        explicit = self._explicit()
        if len(explicit) > 1:
            names = " and ".join(explicit)
            raise ArgumentError(
                f"{names} are two sizes for one result; give one of them (fit takes a width and a height)"
            )
        if self.fit is not None and not (isinstance(self.fit, tuple | list) and len(self.fit) == 2):
            raise ArgumentError(f"fit is {self.fit!r}; give (height, width)")
        for name, value in explicit.items():
            for number in value if isinstance(value, tuple | list) else (value,):
                if not isinstance(number, numbers.Real) or not (math.isfinite(number) and number > 0):
                    raise ArgumentError(f"{name} {number} is no size; give a number above 0")

    def _explicit(self) -> dict[str, float | tuple[int, int]]:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "linear"}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_explicit(self) -> bool:
        """Whether a size is given at all."""
        return bool(self._explicit())

    @classmethod
    def of_scale(cls, scale: float | None, size: "TargetSize | None") -> "TargetSize":
        """A scale is one of the ways to say a size.

        Raises:
            ArgumentError: both are said.
        """
        if scale is None:
            return size or cls()
        return replace(size, scale=scale) if size else cls(scale=scale)

    def of(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) of the result of a picture of this size, each at least 1; None where nothing is said."""
        if not self.is_explicit:
            return None
        if self.fit:
            factor = min(self.fit[0] / height, self.fit[1] / width)
        elif self.scale or self.megapixels:
            factor = self.scale or math.sqrt((self.megapixels or 0) * 1e6 / (height * width))
        elif self.width or self.height:
            factor = self.width / width if self.width else (self.height or 0) / height
        else:
            factor = self.max_side / max(height, width) if self.max_side else (self.min_side or 0) / min(height, width)
        return max(1, math.floor(height * factor + 0.5)), max(1, math.floor(width * factor + 0.5))

    def factor(self, height: int, width: int) -> float | None:
        """The least scale from which the size can be reduced; None where nothing is said."""
        target = self.of(height, width)
        return max(target[0] / height, target[1] / width) if target else None

    def behind(self, scale: int) -> "TargetSize":
        """The same wish for a picture that was enlarged before."""
        return self if self.scale is None else replace(self, scale=self.scale / scale)

    def reach(self, sizes: Iterable[tuple[int, int]], most: float) -> float | None:
        """The least scale from which the sizes of all pictures, (height, width) each, can be reduced, or at most `most`."""
        factors = [self.factor(height, width) for height, width in sizes]
        return min(max(factor or 1 for factor in factors), most) if self.is_explicit and factors else None


def parse_box(text: str) -> tuple[int, int]:
    """(height, width) of `WIDTHxHEIGHT`, such as 1920x1080.

    Raises:
        ArgumentError: it is none.
    """
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text)
    width, height = (int(number) for number in match.groups()) if match else (0, 0)
    if not width or not height:
        raise ArgumentError(f"{text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    return height, width
