"""What running a graph told of it, in a form that the cache keeps: a network is measured once."""

import json
from dataclasses import dataclass
from typing import Any

from sr_tile.engines.exact_pooling.layout import Placement

FORMAT = 1  # of the files in the cache
_LARGEST = 2**20  # of a number that can be true


@dataclass(frozen=True)
class Facts:
    """What is known of a graph.

    Attributes:
        multiple: tiles start at multiples of it.
        places: how tensors follow the picture, those that do.
        shapes: of all tensors, for a picture of `side`.
        side: of that picture, in pixels.
        takes_all_sizes: whether pictures need not end at the multiple.
        margins: pixels before and behind a tile that each segment needs.
    """

    multiple: int
    places: dict[str, Placement]
    shapes: dict[str, tuple[int, ...]]
    side: int
    takes_all_sizes: bool = False
    margins: tuple[tuple[int, int], ...] = ()

    def border(self, name: str) -> int:
        """Elements by which a tensor is longer than its steps."""
        place = self.places[name]
        return self.shapes[name][place.axes[0]] - place.at(self.side)

    def to_json(self) -> str:
        """See `read`."""
        places = {name: [*place.axes, place.step] for name, place in self.places.items()}
        numbers = {"multiple": self.multiple, "side": self.side, "takes_all_sizes": self.takes_all_sizes}
        return json.dumps({**numbers, "shapes": self.shapes, "places": places, "margins": self.margins})

    @classmethod
    def read(cls, text: str, names: set[str]) -> "Facts":
        """What `to_json` wrote of a graph whose tensors have these names.

        Raises:
            ValueError, TypeError, LookupError: it is damaged, or another graph's.
        """
        data = json.loads(text)
        multiple, side = _whole(data["multiple"], 1), _whole(data["side"], 1)
        shapes = {name: tuple(_whole(length) for length in shape) for name, shape in data["shapes"].items()}
        if set(shapes) != names:
            raise ValueError("the tensors are another graph's")
        places = {}
        for name, (y, x, step) in data["places"].items():
            place = Placement((_whole(y), _whole(x)), _whole(step, 1), multiple)
            if y == x or place.at(side) > min(shapes[name][y], shapes[name][x]) + multiple:
                raise ValueError(f"{name} lies outside of itself")
            places[name] = place
        margins = tuple((_whole(before), _whole(after)) for before, after in data["margins"])
        return cls(multiple, places, shapes, side, bool(data["takes_all_sizes"]), margins)


def _whole(value: Any, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LARGEST:
        raise ValueError(f"{value} is no number of elements")
    return value
