"""SCUNet and NAFNet in Torch, as their papers write them: what an exported graph is verified against.

Nothing is folded or rearranged here, so that a mistake in a graph can't hide. Imports torch: only exporting needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from sr_tile.export.architectures import Network, nafnet, scunet
from sr_tile.export.graph_writer import Array

State = Mapping[str, Tensor]


def plain_network(network: Network, state: Mapping[str, Array]) -> Callable[[Tensor], Tensor]:
    """The network as a function of a picture (B, C, H, W), range [0, 1], of any size.

    Args:
        network: what `detect` returned.
        state: its weights.
    """
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    if network.family == "nafnet":
        size, side = nafnet.infer(state), nafnet.LOCAL_SIDE if network.pooling == "local" else None
        return lambda x: _nafnet(tensors, size, side, x)
    scunet_size = scunet.infer(state)
    return lambda x: _scunet(tensors, scunet_size, x)


def _conv(state: State, name: str, x: Tensor, **options: int) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)


def _nafnet(state: State, size: nafnet.NAFNetSize, side: int | None, x: Tensor) -> Tensor:
    def stage(x: Tensor, name: str, blocks: int, level: int) -> Tensor:
        for block in range(blocks):
            x = _naf_block(state, f"{name}.{block}.", None if side is None else side >> level, x)
        return x

    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % size.multiple, 0, -height % size.multiple))
    x, skips = _conv(state, "intro", padded, padding=1), []
    for level, blocks in enumerate(size.encoders):
        skips.append(stage(x, f"encoders.{level}", blocks, level))
        x = _conv(state, f"downs.{level}", skips[-1], stride=2)
    x = stage(x, "middle_blks", size.middle, len(skips))
    for i, blocks in enumerate(size.decoders):
        x = F.pixel_shuffle(_conv(state, f"ups.{i}.0", x), 2) + skips.pop()
        x = stage(x, f"decoders.{i}", blocks, len(skips))
    return (_conv(state, "ending", x, padding=1) + padded)[..., :height, :width]


def _naf_block(state: State, prefix: str, window: int | None, x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"]
        return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, nafnet.EPSILON).movedim(-1, 1)

    branch = _conv(state, f"{prefix}conv1", norm("norm1", x))
    left, right = _conv(state, f"{prefix}conv2", branch, padding=1, groups=branch.shape[1]).chunk(2, dim=1)
    branch = left * right
    means = branch.mean((2, 3), keepdim=True) if window is None else _local_means(branch, window)
    branch = _conv(state, f"{prefix}conv3", branch * _conv(state, f"{prefix}sca.1", means))
    x = x + branch * state[f"{prefix}beta"]
    left, right = _conv(state, f"{prefix}conv4", norm("norm2", x)).chunk(2, dim=1)
    return x + _conv(state, f"{prefix}conv5", left * right) * state[f"{prefix}gamma"]


def _local_means(x: Tensor, window: int) -> Tensor:
    height, width = x.shape[-2:]
    # In float64: Torch adds the pixels of a window one by one, which loses digits in large ones.
    means = F.avg_pool2d(x.double(), (min(window, height), min(window, width)), stride=1).to(x.dtype)
    down, right = height - means.shape[-2], width - means.shape[-1]
    return F.pad(means, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


def _scunet(state: State, size: scunet.SCUNetSize, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % scunet.MULTIPLE, 0, -height % scunet.MULTIPLE), mode="replicate")
    x = _conv(state, "m_head.0", x, padding=1)
    skips: list[Tensor] = []
    for i, (stage, blocks) in enumerate(zip(scunet.STAGES, size.config, strict=True)):
        if i > 3:
            x = F.conv_transpose2d(x + skips.pop(), state[f"{stage}.0.weight"], stride=2)
        else:
            skips.append(x)
        for block in range(blocks):
            x = _swin_conv(state, f"{stage}.{block + int(i > 3)}.", block % 2 == 1, x)
        if i < 3:
            x = _conv(state, f"{stage}.{blocks}", x, stride=2)
    return _conv(state, "m_tail.0", x + skips.pop(), padding=1)[..., :height, :width]


def _swin_conv(state: State, prefix: str, shifted: bool, x: Tensor) -> Tensor:
    left, right = _conv(state, f"{prefix}conv1_1", x).chunk(2, dim=1)
    inner = F.relu(_conv(state, f"{prefix}conv_block.0", left, padding=1))
    left = left + _conv(state, f"{prefix}conv_block.2", inner, padding=1)
    inside = f"{prefix}trans_block."

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{inside}{name}.weight"], state[f"{inside}{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        weight = state[f"{inside}{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, state[f"{inside}{name}.bias"], scunet.EPSILON)

    tokens = right.movedim(1, -1)
    half = scunet.WINDOW // 2
    source = torch.roll(norm("ln1", tokens), (-half, -half), (1, 2)) if shifted else norm("ln1", tokens)
    table = state[f"{inside}msa.relative_position_params"]
    mixed = linear("msa.linear", _window_attention(linear("msa.embedding_layer", source), table, shifted))
    tokens = tokens + (torch.roll(mixed, (half, half), (1, 2)) if shifted else mixed)
    tokens = tokens + linear("mlp.2", F.gelu(linear("mlp.0", norm("ln2", tokens))))
    return x + _conv(state, f"{prefix}conv1_2", torch.cat((left, tokens.movedim(-1, 1)), dim=1))


def _window_attention(qkv: Tensor, table: Tensor, shifted: bool) -> Tensor:
    """Attention inside each 8 x 8 window: (B, H, W, 3 C) to (B, H, W, C)."""
    side, head = scunet.WINDOW, scunet.HEAD
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
