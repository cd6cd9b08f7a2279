"""The architectures that sr-tile writes graphs for itself, recognised by the names in a state dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx

from sr_tile.errors import ArgumentError
from sr_tile.export.architectures import nafnet, scunet
from sr_tile.export.graph_writer import Array

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
        tile: recommended side of a tile.
        graph: writes the ONNX graph for an operator-set version.
        family: "scunet", "nafnet", "ncnn", or "spandrel" for what comes from there.
        pooling: "global" or "local" for NAFNet, None for the others.
    """

    architecture: str
    channels: int
    scale: int
    multiple: int
    tile: int
    graph: Callable[[int], onnx.ModelProto]
    family: str
    pooling: Pooling | None = None


def detect(state: State, pooling: Pooling = "global") -> Network | None:
    """Recognise SCUNet and NAFNet, infer their sizes and check every key.

    Args:
        state: names and weights, any float type.
        pooling: "global" as the papers have it, or "local" (TLC) for NAFNets that run on inputs beyond 384 pixels.

    Returns:
        The network, or None where the names are those of another architecture.

    Raises:
        ModelLoadError: a key is missing, extra or misshaped.
        ArgumentError: local pooling is asked of a network that pools nothing.
    """
    if pooling not in ("global", "local"):
        raise ArgumentError(f"pooling {pooling!r} is not known; use 'global' or 'local'")
    if nafnet.recognises(state):
        naf = nafnet.infer(state)
        return Network(
            architecture=naf.describe() + (" with local pooling" if pooling == "local" else ""),
            channels=naf.channels,
            scale=1,
            multiple=naf.multiple,
            tile=256,
            graph=lambda opset: nafnet.build_graph(state, naf, opset, pooling == "local"),
            family="nafnet",
            pooling=pooling,
        )
    if pooling == "local":
        raise ArgumentError("local pooling exists for NAFNet only; leave --pooling at 'global' for this checkpoint")
    if scunet.recognises(state):
        scu = scunet.infer(state)
        return Network(
            architecture=scu.describe(),
            channels=scu.channels,
            scale=1,
            multiple=scunet.MULTIPLE,
            tile=256,
            graph=lambda opset: scunet.build_graph(state, scu, opset),
            family="scunet",
        )
    return None
