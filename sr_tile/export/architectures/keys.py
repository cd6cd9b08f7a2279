"""Check the names and shapes of a state dict, and count the parts of a network by its names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sr_tile.errors import ModelLoadError
from sr_tile.export.graph_writer import Array

Shapes = dict[str, tuple[int, ...]]


def count(state: Mapping[str, Array], pattern: str) -> int:
    """Largest number that the first group of `pattern` matches at the start of a name, plus one; 0 without a match."""
    found = (re.match(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def require(state: Mapping[str, Array], name: str, what: str) -> tuple[int, ...]:
    """Shape of the convolution that sizes are read from; raises ModelLoadError where it is not there."""
    if name not in state or state[name].ndim != 4:
        raise ModelLoadError(f"{what} checkpoint: key {name} is missing or not 4-dimensional")
    return tuple(state[name].shape)


def check(state: Mapping[str, Array], shapes: Shapes, what: str) -> None:
    """Compare a state dict with the shapes that the network needs.

    Raises:
        ModelLoadError: naming the first missing, extra or misshaped key and how many more there are.
    """
    problems = [f"key {name} is missing" for name in shapes if name not in state]
    problems += [f"key {name} is not known" for name in state if name not in shapes]
    problems += [
        f"key {name} has shape {tuple(state[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise ModelLoadError(f"{what} checkpoint: {problems[0]}{more}")
