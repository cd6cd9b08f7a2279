"""NAFNet in Torch, as its paper writes it: what an exported graph is verified against.

Nothing is folded or rearranged here, so that a mistake in a graph can't hide.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from sr_tile.export.architectures.nafnet.size import EPSILON, NAFNetSize
from sr_tile.export.architectures.torch_reference import Weights, conv


def forward(state: Weights, size: NAFNetSize, side: int | None, x: Tensor) -> Tensor:
    """A picture (B, C, H, W), range [0, 1], of any size; `side` of the pooling window, None for the whole input."""

    def stage(x: Tensor, name: str, blocks: int, level: int) -> Tensor:
        for block in range(blocks):
            x = _naf_block(state, f"{name}.{block}.", None if side is None else side >> level, x)
        return x

    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % size.multiple, 0, -height % size.multiple))
    x, skips = conv(state, "intro", padded, padding=1), []
    for level, blocks in enumerate(size.encoders):
        skips.append(stage(x, f"encoders.{level}", blocks, level))
        x = conv(state, f"downs.{level}", skips[-1], stride=2)
    x = stage(x, "middle_blks", size.middle, len(skips))
    for i, blocks in enumerate(size.decoders):
        x = F.pixel_shuffle(conv(state, f"ups.{i}.0", x), 2) + skips.pop()
        x = stage(x, f"decoders.{i}", blocks, len(skips))
    return (conv(state, "ending", x, padding=1) + padded)[..., :height, :width]


def _naf_block(state: Weights, prefix: str, window: int | None, x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"]
        return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, EPSILON).movedim(-1, 1)

    branch = conv(state, f"{prefix}conv1", norm("norm1", x))
    left, right = conv(state, f"{prefix}conv2", branch, padding=1, groups=branch.shape[1]).chunk(2, dim=1)
    branch = left * right
    means = branch.mean((2, 3), keepdim=True) if window is None else _local_means(branch, window)
    branch = conv(state, f"{prefix}conv3", branch * conv(state, f"{prefix}sca.1", means))
    x = x + branch * state[f"{prefix}beta"]
    left, right = conv(state, f"{prefix}conv4", norm("norm2", x)).chunk(2, dim=1)
    return x + conv(state, f"{prefix}conv5", left * right) * state[f"{prefix}gamma"]


def _local_means(x: Tensor, window: int) -> Tensor:
    height, width = x.shape[-2:]
    # In float64: Torch adds the pixels of a window one by one, which loses digits in large ones.
    means = F.avg_pool2d(x.double(), (min(window, height), min(window, width)), stride=1).to(x.dtype)
    down, right = height - means.shape[-2], width - means.shape[-1]
    return F.pad(means, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")
