"""NAFNet: detected by its names, loaded with its graph (`graph`) and with what Torch computes (`reference`)."""

from __future__ import annotations

from sr_tile.export.architectures.nafnet.graph import build_graph
from sr_tile.export.architectures.nafnet.size import LOCAL_SIDE, infer, recognises
from sr_tile.export.architectures.network import Network, Pooling, State
from sr_tile.models.receptive_field import Picture


def load(state: State, pooling: Pooling) -> Network | None:
    """See `Architecture.load`."""
    if not recognises(state):
        return None
    size, local = infer(state), pooling == "local"

    def reference(picture: Picture) -> Picture:
        from sr_tile.export.architectures.nafnet.reference import forward
        from sr_tile.export.architectures.torch_reference import as_tensors, compute

        return compute(lambda x: forward(as_tensors(state), size, LOCAL_SIDE if local else None, x), picture)

    return Network(
        architecture=size.describe() + (" with local pooling" if local else ""),
        channels=size.channels,
        scale=1,
        multiple=size.multiple,
        graph=lambda opset: build_graph(state, size, opset, local),
        reference=reference,
        pooling=pooling,
    )
