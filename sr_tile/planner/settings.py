"""What a user asks for."""

import numbers
from dataclasses import dataclass, replace
from typing import Literal

from sr_tile.errors import ArgumentError
from sr_tile.system import memory

Auto = Literal["auto"]
LARGEST = 2**24
"""Pixels or rows that any of these may be: more is a damaged file, or a slip of the keys."""


@dataclass(frozen=True)
class Settings:
    """What a user asks for, in pixels and rows; `auto` and None leave it to the model and the machine.

    Attributes:
        tile: side of a tile.
        overlap: what two neighbouring tiles share.
        halo: how much of it each tile discards.
        batch: rows a call.
        mem_limit: bytes that the whole process may take.
        exact_pooling: means over the whole picture inside of the network are those of the picture, not of each tile.
    """

    tile: int | Auto = "auto"
    overlap: int | Auto = "auto"
    halo: int | None = None
    batch: int | Auto = "auto"
    mem_limit: int | None = None
    exact_pooling: bool = False

    def __post_init__(self) -> None:
        for name, least in (("tile", 1), ("overlap", 0), ("halo", 0), ("batch", 1)):
            value = getattr(self, name)
            if value not in ("auto", None) and (not isinstance(value, int) or not least <= value <= LARGEST):
                raise ArgumentError(
                    f"{name} is {value!r}; it must be `auto` or a whole number from {least} to {LARGEST}"
                )

        limit = self.mem_limit
        if limit is not None and not (isinstance(limit, numbers.Integral) and limit > 0):
            raise ArgumentError(f"mem_limit is {limit!r}; it must be a whole number of bytes, such as 2 * 2**30")

    def shared_by(self, pipelines: int) -> "Settings":
        """What one of several may take that run at the same time."""
        if self.mem_limit is None:
            return self
        used = memory.process_ram()
        return replace(self, mem_limit=used + max(0, self.mem_limit - used) // pipelines)
