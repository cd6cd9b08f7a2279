"""SCUNet in Torch, as its paper writes it: what an exported graph is verified against.

Nothing is folded or rearranged here, so that a mistake in a graph can't hide.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from sr_tile.export.architectures.scunet.size import EPSILON, HEAD, MULTIPLE, STAGES, WINDOW, SCUNetSize
from sr_tile.export.architectures.torch_reference import Weights, conv


def forward(state: Weights, size: SCUNetSize, x: Tensor) -> Tensor:
    """A picture (B, C, H, W), range [0, 1], of any size."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
    x = conv(state, "m_head.0", x, padding=1)
    skips: list[Tensor] = []
    for i, (stage, blocks) in enumerate(zip(STAGES, size.config, strict=True)):
        if i > 3:
            x = F.conv_transpose2d(x + skips.pop(), state[f"{stage}.0.weight"], stride=2)
        else:
            skips.append(x)
        for block in range(blocks):
            x = _swin_conv(state, f"{stage}.{block + int(i > 3)}.", block % 2 == 1, x)
        if i < 3:
            x = conv(state, f"{stage}.{blocks}", x, stride=2)
    return conv(state, "m_tail.0", x + skips.pop(), padding=1)[..., :height, :width]


def _swin_conv(state: Weights, prefix: str, shifted: bool, x: Tensor) -> Tensor:
    left, right = conv(state, f"{prefix}conv1_1", x).chunk(2, dim=1)
    inner = F.relu(conv(state, f"{prefix}conv_block.0", left, padding=1))
    left = left + conv(state, f"{prefix}conv_block.2", inner, padding=1)
    inside = f"{prefix}trans_block."

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{inside}{name}.weight"], state[f"{inside}{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        weight = state[f"{inside}{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, state[f"{inside}{name}.bias"], EPSILON)

    tokens = right.movedim(1, -1)
    half = WINDOW // 2
    source = torch.roll(norm("ln1", tokens), (-half, -half), (1, 2)) if shifted else norm("ln1", tokens)
    table = state[f"{inside}msa.relative_position_params"]
    mixed = linear("msa.linear", _window_attention(linear("msa.embedding_layer", source), table, shifted))
    tokens = tokens + (torch.roll(mixed, (half, half), (1, 2)) if shifted else mixed)
    tokens = tokens + linear("mlp.2", F.gelu(linear("mlp.0", norm("ln2", tokens))))
    return x + conv(state, f"{prefix}conv1_2", torch.cat((left, tokens.movedim(-1, 1)), dim=1))


def _window_attention(qkv: Tensor, table: Tensor, shifted: bool) -> Tensor:
    """Attention inside each 8 x 8 window: (B, H, W, 3 C) to (B, H, W, C)."""
    side, head = WINDOW, HEAD
    batch, height, width, channels = qkv.shape
    high, wide, heads = height // side, width // side, channels // (3 * head)
    windows = qkv.reshape(batch, high, side, wide, side, 3, heads, head).permute(5, 0, 1, 3, 6, 2, 4, 7)
    query, key, value = windows.reshape(3, batch, high, wide, heads, side * side, head).unbind(0)
    position = torch.arange(side * side)
    y, x = position // side, position % side
    bias = table[:, y[:, None] - y + side - 1, x[:, None] - x + side - 1]
    scores = query @ key.transpose(-1, -2) * head**-0.5 + bias
    if shifted:
        rows, columns = (late[:, None] != late for late in (y >= side // 2, x >= side // 2))
        scores[:, -1] = scores[:, -1].masked_fill(rows, float("-inf"))
        scores[:, :, -1] = scores[:, :, -1].masked_fill(columns, float("-inf"))
    mixed = (scores.softmax(-1) @ value).reshape(batch, high, wide, heads, side, side, head)
    return mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, channels // 3)
