"""Every architecture that spandrel knows, through Torch's own exporter (`module`)."""

from __future__ import annotations

from sr_tile.export.architectures.network import Network, Pooling, State


def load(state: State, pooling: Pooling) -> Network | None:
    """See `Architecture.load`; raises ModelLoadError where spandrel is missing or does not know the names either."""
    from sr_tile.export.architectures.spandrel.module import load_module  # torch

    return load_module(state)
