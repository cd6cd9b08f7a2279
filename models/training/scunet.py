"""A small SCUNet, trainable: names and shapes of the published checkpoints, so that `sr-tile export-onnx` reads them.

Source: Zhang et al., "Practical blind denoising via Swin-Conv-UNet and data synthesis", 2022; windows and their masks:
Liu et al., "Swin transformer", ICCV 2021. The graph that ships is not traced from here but written by
`sr_tile/export/architectures/scunet.py` from the same weights.

What the weights may be is narrower than in the paper. Three channels carry the picture from the first layer to the last,
all others begin as difference filters, and no bias is trained: flat colours come back unchanged, and an untrained network
returns its input. No block runs at full resolution, where they cost most of the time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

WINDOW, HEAD = 8, 32
AREA = WINDOW * WINDOW
MULTIPLE = 64
SILENCE = 1e-4


class Attention(nn.Module):
    """Attention inside windows of 8 x 8, with a learned table of relative positions.

    Args:
        width: channels, a multiple of HEAD.
        shifted: windows start four pixels further on, cyclically; what that joined from both ends is masked.
    """

    def __init__(self, width: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.shift = width // HEAD, WINDOW // 2 if shifted else 0
        self.relative_position_params = nn.Parameter(torch.zeros(self.heads, 2 * WINDOW - 1, 2 * WINDOW - 1))
        nn.init.trunc_normal_(self.relative_position_params, std=0.02)
        self.embedding_layer, self.linear = nn.Linear(width, 3 * width), nn.Linear(width, width)
        row, column = torch.arange(AREA) // WINDOW, torch.arange(AREA) % WINDOW
        rows, columns = (a[:, None] - a[None, :] + WINDOW - 1 for a in (row, column))
        self.register_buffer("places", rows * (2 * WINDOW - 1) + columns, persistent=False)
        late = torch.stack([row, column]) >= WINDOW // 2
        self.register_buffer("apart", late[:, :, None] != late[:, None, :], persistent=False)

    def table(self, high: int, wide: int) -> Tensor:
        """What is added to the scores: (1, windows or 1, heads, 64, 64)."""
        bias = self.relative_position_params.flatten(1)[:, self.places][None, None]
        if not self.shift:
            return bias
        mask = torch.zeros(high, wide, AREA, AREA, dtype=torch.bool, device=bias.device)
        mask[-1] |= self.apart[0]
        mask[:, -1] |= self.apart[1]
        return bias.masked_fill(mask.view(1, high * wide, 1, AREA, AREA), -1e4)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the pixels of each window: (N, H, W, width), H and W multiples of 8."""
        batch, height, width, channels = x.shape
        high, wide = height // WINDOW, width // WINDOW
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = self.embedding_layer(x).view(batch, high, WINDOW, wide, WINDOW, 3, self.heads, HEAD)
        query, key, value = x.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, AREA, HEAD).unbind(0)
        scores = torch.bmm(query * HEAD**-0.5, key.transpose(1, 2)).view(batch, -1, self.heads, AREA, AREA)
        scores = (scores + self.table(high, wide).to(scores.dtype)).softmax(-1).view(-1, AREA, AREA)
        x = torch.bmm(scores.to(value.dtype), value).view(batch, high, wide, self.heads, WINDOW, WINDOW, HEAD)
        x = self.linear(x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, channels))
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class Transformer(nn.Module):
    """Attention, then an MLP on every pixel, both behind a norm and added to what they read."""

    def __init__(self, width: int, shifted: bool) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.msa = Attention(width, shifted)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.msa(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class SwinConv(nn.Module):
    """Half of the channels through two convolutions, half through a transformer, then mixed and added.

    Args:
        width: channels.
        shifted: whether the windows of the attention are shifted.
    """

    def __init__(self, width: int, shifted: bool) -> None:
        super().__init__()
        self.half = width // 2
        self.trans_block = Transformer(self.half, shifted)
        self.conv1_1, self.conv1_2 = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.conv_block = nn.Sequential(
            nn.Conv2d(self.half, self.half, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(self.half, self.half, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv1_1(x).split(self.half, dim=1)
        left = left + self.conv_block(left)
        right = self.trans_block(right.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.conv1_2(torch.cat((left, right), dim=1))


class SCUNet(nn.Module):
    """Remove noise and compression damage of unknown strength.

    Args:
        dim: channels at full resolution, a multiple of twice HEAD; every halving doubles them.
        config: blocks of the seven stages: three down, the deepest, three up; none in the first and the last.

    Raises:
        ValueError: there are blocks at full resolution.
    """

    multiple = MULTIPLE

    def __init__(self, dim: int = 32, config: tuple[int, ...] = (2,) * 7) -> None:
        super().__init__()
        if config[0] or config[6]:
            raise ValueError(f"blocks {config}: the first and the last stage must be 0, or flat colours are not kept")

        def blocks(level: int, count: int) -> list[nn.Module]:
            return [SwinConv(dim << level, shifted=i % 2 == 1) for i in range(count)]

        self.m_head = nn.Sequential(nn.Conv2d(3, dim, 3, bias=False))
        for level in range(3):
            down = nn.Conv2d(dim << level, dim << level + 1, 2, 2, bias=False)
            setattr(self, f"m_down{level + 1}", nn.Sequential(*blocks(level, config[level]), down))
        self.m_body = nn.Sequential(*blocks(3, config[3]))
        for level in (2, 1, 0):
            up = nn.ConvTranspose2d(dim << level + 1, dim << level, 2, 2, bias=False)
            setattr(self, f"m_up{level + 1}", nn.Sequential(up, *blocks(level, config[6 - level])))
        self.m_tail = nn.Sequential(nn.Conv2d(dim, 3, 3, padding=1, bias=False))
        self.start()

    @torch.no_grad()
    def start(self) -> None:
        """Initial weights: small ends of residual branches, and the picture handed through unchanged."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.5 * module.in_channels**-0.5)
            if isinstance(module, SwinConv):
                for layer in (module.conv_block[2], module.trans_block.mlp[2], module.trans_block.msa.linear):
                    layer.weight.mul_(0.5)
                module.conv1_2.weight.mul_(0.1)
        self.m_tail[0].weight.zero_()
        self.m_up1[0].weight[:, :3].zero_()
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_().requires_grad_(False)
        self.constrain()

    @torch.no_grad()
    def constrain(self) -> None:
        """Put the weights back to where flat colours are kept; to be called after every step of training."""
        head, tail = self.m_head[0].weight, self.m_tail[0].weight
        head[3:] -= head[3:].mean(dim=(2, 3), keepdim=True)
        head[:3].zero_()
        tail[:, :3].zero_()
        for colour in range(3):
            head[colour, colour, 1, 1] = tail[colour, colour, 1, 1] = 1
        self.m_down1[0].weight[:, :3].zero_()  # whatever is deeper never sees the picture itself

    def forward(self, x: Tensor) -> Tensor:
        """Restore.

        Args:
            x: (N, 3, H, W), RGB of range [0, 1], any size from 1 x 1.

        Returns:
            (N, 3, H, W), not clipped.
        """
        height, width = x.shape[-2:]
        # One pixel more than SCUNet pads: behind zeros, difference filters would see an edge around a flat picture.
        x = F.pad(x, (1, 1 + -width % MULTIPLE, 1, 1 + -height % MULTIPLE), mode="replicate")
        first = self.m_head(x)
        # The norms make much of little: left alone, errors of rounding on flat colours would grow to whole steps.
        second = F.hardshrink(self.m_down1(first), SILENCE)
        third = self.m_down2(second)
        fourth = self.m_down3(third)
        x = self.m_up3(self.m_body(fourth) + fourth)
        x = self.m_up2(x + third)
        x = self.m_up1(x + second)
        return self.m_tail(x + first)[..., :height, :width].float()
