"""SCUNet and NAFNet written from their papers in the plainest way, to check the exporter against.

Nothing is shared with sr_tile: names of parameters follow the published checkpoints, the arithmetic follows the papers.
SCUNet: Zhang et al., "Practical blind denoising via Swin-Conv-UNet and data synthesis", 2022; windows and masks: Liu et
al., "Swin transformer", ICCV 2021. NAFNet: Chen et al., "Simple baselines for image restoration", ECCV 2022. Local
pooling: Chu et al., "Improving image restoration by revisiting global information aggregation", ECCV 2022.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor, nn

WINDOW, HEAD = 8, 32


class Attention(nn.Module):
    def __init__(self, width: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.shifted = width // HEAD, shifted
        self.relative_position_params = nn.Parameter(torch.zeros(self.heads, 2 * WINDOW - 1, 2 * WINDOW - 1))
        self.embedding_layer = nn.Linear(width, 3 * width)
        self.linear = nn.Linear(width, width)

    def bias(self) -> Tensor:
        row = torch.arange(WINDOW * WINDOW) // WINDOW
        column = torch.arange(WINDOW * WINDOW) % WINDOW
        rows = row[:, None] - row[None, :] + WINDOW - 1
        columns = column[:, None] - column[None, :] + WINDOW - 1
        return self.relative_position_params[:, rows, columns]

    def mask(self, high: int, wide: int) -> Tensor:
        mask = torch.zeros(high, wide, WINDOW, WINDOW, WINDOW, WINDOW, dtype=torch.bool)
        if self.shifted:
            half = WINDOW // 2
            mask[-1, :, :half, :, half:, :] = True
            mask[-1, :, half:, :, :half, :] = True
            mask[:, -1, :, :half, :, half:] = True
            mask[:, -1, :, half:, :, :half] = True
        return mask.reshape(high * wide, 1, WINDOW**2, WINDOW**2)

    def forward(self, x: Tensor) -> Tensor:
        if self.shifted:
            x = torch.roll(x, (-(WINDOW // 2), -(WINDOW // 2)), (1, 2))
        batch, height, width, channels = x.shape
        high, wide = height // WINDOW, width // WINDOW
        x = x.reshape(batch, high, WINDOW, wide, WINDOW, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, high * wide, WINDOW**2, channels)
        query, key, value = self.embedding_layer(x).chunk(3, dim=-1)
        query, key, value = (
            part.reshape(batch, high * wide, WINDOW**2, self.heads, HEAD).transpose(2, 3)
            for part in (query, key, value)
        )
        scores = torch.einsum("bnhpc,bnhqc->bnhpq", query, key) / HEAD**0.5 + self.bias()
        scores = scores.masked_fill(self.mask(high, wide), float("-inf"))
        x = torch.einsum("bnhpq,bnhqc->bnhpc", scores.softmax(-1), value)
        x = self.linear(x.transpose(2, 3).reshape(batch, high * wide, WINDOW**2, channels))
        x = x.reshape(batch, high, wide, WINDOW, WINDOW, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, height, width, channels)
        return torch.roll(x, (WINDOW // 2, WINDOW // 2), (1, 2)) if self.shifted else x


class Transformer(nn.Module):
    def __init__(self, width: int, shifted: bool) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.msa = Attention(width, shifted)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.msa(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class SwinConv(nn.Module):
    def __init__(self, width: int, shifted: bool) -> None:
        super().__init__()
        self.half = width // 2
        self.trans_block = Transformer(self.half, shifted)
        self.conv1_1, self.conv1_2 = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.conv_block = nn.Sequential(
            nn.Conv2d(self.half, self.half, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(self.half, self.half, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv1_1(x).split(self.half, dim=1)
        left = left + self.conv_block(left)
        right = self.trans_block(right.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.conv1_2(torch.cat((left, right), dim=1))


class SCUNet(nn.Module):
    def __init__(self, channels: int = 3, config: tuple[int, ...] = (4,) * 7, dim: int = 64) -> None:
        super().__init__()

        def blocks(width: int, count: int) -> list[nn.Module]:
            return [SwinConv(width, shifted=i % 2 == 1) for i in range(count)]

        def down(width: int) -> nn.Module:
            return nn.Conv2d(width, 2 * width, 2, 2, bias=False)

        def up(width: int) -> nn.Module:
            return nn.ConvTranspose2d(2 * width, width, 2, 2, bias=False)

        self.m_head = nn.Sequential(nn.Conv2d(channels, dim, 3, padding=1, bias=False))
        self.m_down1 = nn.Sequential(*blocks(dim, config[0]), down(dim))
        self.m_down2 = nn.Sequential(*blocks(2 * dim, config[1]), down(2 * dim))
        self.m_down3 = nn.Sequential(*blocks(4 * dim, config[2]), down(4 * dim))
        self.m_body = nn.Sequential(*blocks(8 * dim, config[3]))
        self.m_up3 = nn.Sequential(up(4 * dim), *blocks(4 * dim, config[4]))
        self.m_up2 = nn.Sequential(up(2 * dim), *blocks(2 * dim, config[5]))
        self.m_up1 = nn.Sequential(up(dim), *blocks(dim, config[6]))
        self.m_tail = nn.Sequential(nn.Conv2d(dim, channels, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, (-width) % 64, 0, (-height) % 64), mode="replicate")
        first = self.m_head(x)
        second = self.m_down1(first)
        third = self.m_down2(second)
        fourth = self.m_down3(third)
        x = self.m_up3(self.m_body(fourth) + fourth)
        x = self.m_up2(x + third)
        x = self.m_up1(x + second)
        return self.m_tail(x + first)[..., :height, :width]


class ChannelNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / (spread + 1e-6).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class LocalMean(nn.Module):
    """Mean over a window of `side` pixels, moved inward at the border (TLC)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        high, wide = min(self.side, height), min(self.side, width)
        means = F.avg_pool2d(x.double(), (high, wide), stride=1).to(x.dtype)
        down, right = height - means.shape[-2], width - means.shape[-1]
        return F.pad(means, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


class NAFBlock(nn.Module):
    def __init__(self, width: int, window: int | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.conv3 = nn.Conv2d(width, width, 1)
        pool = nn.AdaptiveAvgPool2d(1) if window is None else LocalMean(window)
        self.sca = nn.Sequential(pool, nn.Conv2d(width, width, 1))
        self.conv4, self.conv5 = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv2(self.conv1(self.norm1(x))).chunk(2, dim=1)
        gated = left * right
        x = x + self.beta * self.conv3(gated * self.sca(gated))
        left, right = self.conv4(self.norm2(x)).chunk(2, dim=1)
        return x + self.gamma * self.conv5(left * right)


class NAFNet(nn.Module):
    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        encoders: tuple[int, ...] = (1, 1, 1, 28),
        middle: int = 1,
        decoders: tuple[int, ...] = (1, 1, 1, 1),
        local_side: int | None = None,
    ) -> None:
        super().__init__()

        def blocks(level: int, count: int) -> nn.Sequential:
            window = None if local_side is None else local_side >> level
            return nn.Sequential(*(NAFBlock(width << level, window) for _ in range(count)))

        depth = len(encoders)
        self.multiple = 1 << depth
        self.intro = nn.Conv2d(channels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, channels, 3, padding=1)
        self.encoders = nn.ModuleList(blocks(i, count) for i, count in enumerate(encoders))
        self.downs = nn.ModuleList(nn.Conv2d(width << i, width << (i + 1), 2, 2) for i in range(depth))
        self.middle_blks = blocks(depth, middle)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width << (i + 1), width << (i + 2), 1, bias=False), nn.PixelShuffle(2))
            for i in reversed(range(depth))
        )
        self.decoders = nn.ModuleList(blocks(depth - 1 - i, count) for i, count in enumerate(decoders))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, (-width) % self.multiple, 0, (-height) % self.multiple))
        x, skips = self.intro(padded), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        return (self.ending(x) + padded)[..., :height, :width]


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter with values that keep the signal near unit size and leave no part of the network idle."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: Tensor, mean: float, deviation: float) -> None:
        parameter.data = mean + deviation * torch.randn(parameter.shape, generator=generator)

    for name, parameter in network.named_parameters():
        if name.endswith("relative_position_params"):
            normal(parameter, 0.0, 1.0)
        elif name.endswith(("beta", "gamma")):
            normal(parameter, 0.0, 0.3)
        elif parameter.ndim == 1 and name.endswith("weight"):
            normal(parameter, 1.0, 0.2)
        elif parameter.ndim == 1:
            normal(parameter, 0.0, 0.1)
        else:
            normal(parameter, 0.0, 0.9 / parameter[0].numel() ** 0.5)
    return network.eval()
