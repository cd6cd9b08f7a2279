"""SCUNet: detected by its names, loaded with its graph (`graph`) and with what Torch computes (`reference`)."""

from __future__ import annotations

from sr_tile.export.architectures.network import Network, Pooling, State
from sr_tile.export.architectures.scunet.graph import build_graph
from sr_tile.export.architectures.scunet.size import MULTIPLE, infer, recognises
from sr_tile.models.receptive_field import Picture


def load(state: State, pooling: Pooling) -> Network | None:
    """See `Architecture.load`."""
    if not recognises(state):
        return None
    size = infer(state)

    def reference(picture: Picture) -> Picture:
        from sr_tile.export.architectures.scunet.reference import forward
        from sr_tile.export.architectures.torch_reference import as_tensors, compute

        return compute(lambda x: forward(as_tensors(state), size, x), picture)

    return Network(
        architecture=size.describe(),
        channels=size.channels,
        scale=1,
        multiple=MULTIPLE,
        graph=lambda opset: build_graph(state, size, opset),
        reference=reference,
    )
