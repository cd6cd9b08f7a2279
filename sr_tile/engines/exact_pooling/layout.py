"""Where a tile lies in each tensor of a graph: found by running the graph at a few sizes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sr_tile.errors import ArgumentError, ModelError
from sr_tile.tiling.grid import round_up

Shapes = Mapping[str, tuple[int, ...]]

_FAR = 20  # multiples
_TOLERANCE = 1e-5  # of a tensor's largest value: what float32 loses by adding in another order


@dataclass(frozen=True)
class Placement:
    """How a tensor follows the picture.

    Attributes:
        axes: those that follow its height and its width.
        step: elements for each `multiple` pixels of the picture.
        multiple: tiles start at multiples of it.
    """

    axes: tuple[int, int]
    step: int
    multiple: int

    def at(self, pixel: int) -> int:
        """The element at which a tile begins that begins at `pixel`, a multiple."""
        return pixel // self.multiple * self.step

    def window(self, y: slice, x: slice) -> tuple[slice, ...]:
        """An index of the tensor."""
        index = [slice(None)] * (max(self.axes) + 1)
        index[self.axes[0]], index[self.axes[1]] = y, x
        return tuple(index)


def find_placements(
    shapes_of: Callable[[int, int], Shapes], multiples: Iterable[int], smallest: int
) -> tuple[int, dict[str, Placement]]:
    """The least multiple at which all tensors grow evenly with the picture, and how each of them does.

    Args:
        shapes_of: (height, width) of a picture to the shapes of all tensors; raises `ModelError` where it is not taken.
        multiples: to be tried.
        smallest: pixels a side that the graph takes.

    Raises:
        ArgumentError: there is none.
    """
    for multiple in multiples:
        side = round_up(max(64, smallest), multiple)
        far = side + _FAR * multiple  # steps of 15 that are padded to 16 look even for long
        sizes = [(side, side), (side, side + multiple)]
        sizes += [(height, side) for height in (*range(side + multiple, side + 5 * multiple, multiple), far)]
        try:
            shapes = [shapes_of(*size) for size in sizes]
        except ModelError:
            continue
        found = {name: _placement([shape[name] for shape in shapes], multiple) for name in shapes[0]}
        if all(found.values()):
            return multiple, {name: place for name, place in found.items() if isinstance(place, Placement)}
    raise ArgumentError("--exact-pooling: no grid was found on which the tensors of the graph follow the picture")


def _placement(shapes: Sequence[tuple[int, ...]], multiple: int) -> "Placement | bool":
    """How a tensor follows the picture; True where it does not, or in no way for tiles; False where it is uneven."""
    base, wider, *higher = shapes
    if len({len(shape) for shape in shapes}) > 1:
        return False
    rows = [axis for axis in range(len(base)) if any(shape[axis] != base[axis] for shape in higher)]
    columns = [axis for axis in range(len(base)) if base[axis] != wider[axis]]
    if len(rows) != 1 or len(columns) != 1 or rows == columns:
        return not (rows and not columns)
    first = higher[0][rows[0]] - base[rows[0]]
    even = [shape[rows[0]] - base[rows[0]] for shape in higher] == [count * first for count in (1, 2, 3, 4, _FAR)]
    if not even or first != wider[columns[0]] - base[columns[0]] or first < 1:
        return False
    return Placement((rows[0], columns[0]), first, multiple)


def differing(whole: np.ndarray, tile: np.ndarray, place: Placement, start: int) -> tuple[int, int] | None:
    """Elements at the beginning and at the end of a tile that differ from the whole; None where all do.

    Args:
        whole: a tensor of the whole picture.
        tile: the same of a tile that begins at (start, start), in pixels.
        place: of the tensor.
        start: a multiple.
    """
    first = place.at(start)
    ends = [first + tile.shape[axis] for axis in place.axes]
    there = whole[place.window(slice(first, ends[0]), slice(first, ends[1]))]
    shared = place.window(slice(there.shape[place.axes[0]]), slice(there.shape[place.axes[1]]))
    bound = _TOLERANCE * float(np.abs(whole).max())
    wrong = np.abs(there - tile[shared]) > bound
    wrong = np.moveaxis(wrong, place.axes, (0, 1)).any(axis=tuple(range(2, wrong.ndim)))
    height, width = wrong.shape
    middle_y, middle_x = slice(height // 3, -(height // 3)), slice(width // 3, -(width // 3))
    before = after = 0
    for line in (wrong[:, middle_x].any(axis=1), wrong[middle_y].any(axis=0)):
        if line[len(line) // 2]:
            return None
        places = np.flatnonzero(line)
        half = len(line) // 2
        before = max(before, int(places[places < half].max(initial=-1)) + 1)
        after = max(after, len(line) - int(places[places > half].min(initial=len(line))))
    if before > height // 3 or after > height // 3:
        return None
    # Where a tile's tensor is longer than the whole's rest, what is beyond counts as well.
    return before, after
