"""What the references in Torch share. Imports torch: only verifying needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from sr_tile.export.architectures.network import State
from sr_tile.models.receptive_field import Picture

Weights = Mapping[str, Tensor]


def compute(network: Callable[[Tensor], Tensor], picture: Picture) -> Picture:
    """What a network in Torch makes of a picture, without the bookkeeping of gradients."""
    with torch.inference_mode():
        return network(torch.tensor(picture)).numpy()  # a copy: RCAN multiplies what it is given in place


def as_tensors(state: State) -> dict[str, Tensor]:
    """The weights for Torch, without a copy."""
    return {name: torch.from_numpy(value) for name, value in state.items()}


def conv(weights: Weights, name: str, x: Tensor, **options: int) -> Tensor:
    """The convolution of this name, with a bias where there is one."""
    return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **options)
