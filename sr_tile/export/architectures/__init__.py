"""The architectures whose checkpoints can be exported: each is a package here that detects and loads its own."""

from __future__ import annotations

from sr_tile.errors import ArgumentError, ModelLoadError
from sr_tile.export.architectures import nafnet, scunet, spandrel
from sr_tile.export.architectures.network import Architecture, Network, Pooling, State

__all__ = ["ARCHITECTURES", "Network", "Pooling", "detect"]

ARCHITECTURES: tuple[Architecture, ...] = (
    nafnet,
    scunet,
    spandrel,
)  # spandrel last: it knows many, and what is unknown


def detect(state: State, pooling: Pooling = "global") -> Network:
    """Recognise a state dict by its names, infer the network's sizes and check every key.

    Args:
        state: names and weights, any float type.
        pooling: "global" as the papers have it, or "local" (TLC) for NAFNets that run on inputs beyond 384 pixels.

    Raises:
        ModelLoadError: no architecture has these names, or a key is missing, extra or misshaped.
        ArgumentError: local pooling is asked of a network that pools nothing.
    """
    if pooling not in ("global", "local"):
        raise ArgumentError(f"pooling {pooling!r} is not known; use 'global' or 'local'")
    for architecture in ARCHITECTURES:
        if network := architecture.load(state, pooling):
            if pooling == "local" and network.pooling is None:
                raise ArgumentError(
                    "local pooling exists for NAFNet only; leave --pooling at 'global' for this checkpoint"
                )
            return network
    raise ModelLoadError("the checkpoint's architecture is not known")
