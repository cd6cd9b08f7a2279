"""What the exporter knows of a network, and what an architecture must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import onnx

from sr_tile.export.graph_writer import Array
from sr_tile.models.receptive_field import Run

Pooling = Literal["global", "local"]
State = Mapping[str, Array]


@dataclass(frozen=True)
class Network:
    """One network, with everything the exporter must know of it.

    Attributes:
        architecture: name and size in words, for people.
        channels: channels in and out.
        scale: output pixels per input pixel.
        multiple: tiles should start and end at multiples of it.
        graph: writes the ONNX graph for an operator-set version.
        reference: the same function, computed in another way: (B, C, H, W), range [0, 1], of any size. What the graph is
            verified against.
        against: how `reference` computes, in words.
        tile: recommended side of a tile.
        pooling: "global" or "local" for NAFNet, None for the others.
        is_multiple_known: False where the network may pad inside to a grid that only running it tells.
    """

    architecture: str
    channels: int
    scale: int
    multiple: int
    graph: Callable[[int], onnx.ModelProto]
    reference: Run
    against: str = "PyTorch"
    tile: int = 256
    pooling: Pooling | None = None
    is_multiple_known: bool = True


class Architecture(Protocol):
    """A module that knows how to detect and load networks of one architecture."""

    def load(self, state: State, pooling: Pooling) -> Network | None:
        """The network of a state dict, None where the names are those of another architecture.

        Args:
            state: names and weights, any float type.
            pooling: "global" as the papers have it, or "local" (TLC) for NAFNets that run on inputs beyond 384 pixels;
                an architecture that pools nothing ignores it.

        Raises:
            ModelLoadError: a key is missing, extra or misshaped.
        """
        ...
