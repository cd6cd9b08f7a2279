"""The bundled denoiser: a small U-Net at half resolution whose output is the input minus an estimate of the damage.

The layout is NAFNet's (Chen et al., "Simple baselines for image restoration", ECCV 2022): blocks of residual branches,
strided convolutions down, pixel shuffle up, skips that are added. Left out is what makes NAFNet depend on how the image
was cut: its channel attention pools over the whole input. Like the enlarger the network has no biases and begins with
difference filters, so flat colours come back unchanged, and one set of weights serves all noise levels
(Mohan et al., ICLR 2020). Working at half resolution: FFDNet (Zhang, Zuo and Zhang, IEEE TIP 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class HalvingHead(nn.Module):
    """Space-to-depth by two, then 3 x 3 difference filters: each kernel sums to zero for each colour.

    Args:
        outputs: output channels.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, 12, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias, self.padding = None, 0

    def folded(self) -> Tensor:
        """The kernels that are applied: (outputs, 12, 3, 3); colours are the slow index of the 12."""
        colours = self.weight.unflatten(1, (3, 4))
        return (colours - colours.mean(dim=(2, 3, 4), keepdim=True)).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.folded())


def _conv(inputs: int, outputs: int, size: int = 3, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """A convolution without bias, He initialisation times `gain`."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    layer.weight.data.mul_(gain)
    return layer


class PlainBlock(nn.Module):
    """x + conv(ReLU(conv(x))), both 3 x 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width, gain=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel, without a shift: flat stays zero, nothing leaves the pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + 1e-4) * self.scale


class GateBlock(nn.Module):
    """NAFNet's block without its channel attention: 1 x 1, depthwise 3 x 3, product, 1 x 1; then 1 x 1 again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = PixelNorm(width), PixelNorm(width)
        self.widen, self.mix = _conv(width, 2 * width, 1, gain=0.7), _conv(2 * width, 2 * width, 3, groups=2 * width)
        self.narrow = _conv(width, width, 1, gain=0.2)
        self.grow, self.shrink = _conv(width, 2 * width, 1, gain=0.7), _conv(width, width, 1, gain=0.2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.mix(self.widen(self.norm1(x))).chunk(2, dim=1)
        x = x + self.narrow(a * b)
        a, b = self.grow(self.norm2(x)).chunk(2, dim=1)
        return x + self.shrink(a * b)


class Denoiser(nn.Module):
    """Remove noise and compression damage of unknown strength.

    Args:
        width: channels at half resolution; each further halving doubles them.
        blocks: blocks per stage from half resolution down; the deepest stage once, the others on both ways.
        block: "plain" or "gate".
    """

    def __init__(self, width: int = 64, blocks: tuple[int, ...] = (2, 3), block: str = "plain") -> None:
        super().__init__()
        kind = PlainBlock if block == "plain" else GateBlock
        widths = [width * 2**k for k in range(len(blocks))]
        self.multiple = 2 ** len(blocks)
        self.description = (
            f"U-Net at half resolution, {block} blocks {tuple(blocks)}, widths {tuple(widths)}, no pooling"
        )
        self.head = HalvingHead(width)
        pairs = list(zip(widths[:-1], blocks[:-1], strict=True))
        self.down = nn.ModuleList(nn.Sequential(*(kind(w) for _ in range(n))) for w, n in pairs)
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, 2, bias=False) for w, _ in pairs)
        self.middle = nn.Sequential(*(kind(widths[-1]) for _ in range(blocks[-1])))
        self.enlarge = nn.ModuleList(
            nn.Sequential(_conv(2 * w, 4 * w, 1), nn.PixelShuffle(2)) for w, _ in reversed(pairs)
        )
        self.up = nn.ModuleList(nn.Sequential(*(kind(w) for _ in range(n))) for w, n in reversed(pairs))
        self.tail = _conv(width, 12, gain=0.1)

    def features(self, x: Tensor) -> Tensor:
        """What the network knows of (N, 3, H, W) at half resolution: (N, width, H' / 2, W' / 2), H' a multiple."""
        height, width = x.shape[-2:]
        down, right = -height % self.multiple, -width % self.multiple
        padded = F.pad(x, (2, 2 + right, 2, 2 + down), mode="replicate")
        features = F.relu(self.head(F.pixel_unshuffle(padded, 2)))
        kept = []
        for stage, halve in zip(self.down, self.shrink, strict=True):
            features = stage(features)
            kept.append(features)
            features = halve(features)
        features = self.middle(features)
        for double, stage in zip(self.enlarge, self.up, strict=True):
            features = stage(double(features) + kept.pop())
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Restore.

        Args:
            x: (N, 3, H, W), RGB of range [0, 1], any size from 1 x 1.

        Returns:
            (N, 3, H, W), not clipped.
        """
        height, width = x.shape[-2:]
        damage = F.pixel_shuffle(self.tail(self.features(x)).float(), 2)
        return x - damage[..., :height, :width]
