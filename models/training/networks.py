"""The networks that sr-tile bundles, small enough for a CPU and exactly local.

An enlarger is a bicubic skip plus a residual predicted at low resolution. Nothing in it has a bias and its first layer
consists of difference filters (each kernel sums to zero), so brightness and contrast pass through unchanged: a constant
image comes back constant, and zero padding inside the network is the natural continuation of a flat border.
Sources: bias-free networks, Mohan et al., "Robust and interpretable blind image denoising", ICLR 2020; pixel shuffle, Shi
et al., CVPR 2016; linear branches folded in weight space, Bhardwaj et al., "Collapsible linear blocks", MLSys 2022, and
Zhang et al., "Edge-oriented convolution block", ACM MM 2021.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from resample import bicubic_phases
from restorers import Denoiser, GateBlock, HalvingHead
from torch import Tensor, nn


class DifferenceConv(nn.Module):
    """A first layer of difference filters: every kernel sums to zero over its window, colour by colour.

    Args:
        outputs: output channels.
        free: let the kernels sum to anything, and add a bias (for comparison).
        inputs: input channels, each a colour of an image.
    """

    def __init__(self, outputs: int, free: bool = False, inputs: int = 3) -> None:
        super().__init__()
        self.free = free
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 5, 5))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(outputs)) if free else None
        self.padding = 0

    def folded(self) -> Tensor:
        """The kernels that are applied: (outputs, inputs, 5, 5)."""
        return self.weight if self.free else self.weight - self.weight.mean(dim=(2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.folded(), self.bias)


class FoldedConv(nn.Module):
    """A 3 x 3 convolution whose weight is the sum of branches, added up in weight space at every step.

    Running the branches on weights rather than on images makes them almost free in training, and `folded` gives the
    single kernel that is shipped.

    Args:
        inputs: input channels.
        outputs: output channels.
        identity: add the identity, so that the layer starts as a residual layer.
        expand: width factor of a linear 3 x 3 -> 1 x 1 branch; 0 for none.
        bias: whether the convolution has a bias.
    """

    def __init__(self, inputs: int, outputs: int, identity: bool = True, expand: int = 0, bias: bool = False) -> None:
        super().__init__()
        self.identity = identity and inputs == outputs
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.identity:
            self.weight.data.mul_(0.5)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        if expand:
            self.widen = nn.Parameter(torch.randn(expand * inputs, inputs * 9) * (1 / (9 * inputs)) ** 0.5)
            self.narrow = nn.Parameter(torch.randn(outputs, expand * inputs) * 0.3 * (1 / (expand * inputs)) ** 0.5)
        self.expand, self.padding = expand, 1

    def folded(self) -> Tensor:
        """The kernel that does the work of all branches: (outputs, inputs, 3, 3)."""
        weight = self.weight
        if self.expand:
            weight = weight + (self.narrow @ self.widen).view_as(weight)
        if self.identity:
            one = torch.eye(weight.shape[0], device=weight.device)[:, :, None, None]
            weight = weight + F.pad(one, (1, 1, 1, 1))
        return weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.folded(), self.bias, padding=1)


class Residual(nn.Module):
    """conv - activation - conv plus the input (EDSR's block, Lim et al. 2017), for comparison."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.first = FoldedConv(width, width, identity=False, bias=bias)
        self.second = FoldedConv(width, width, identity=False, bias=bias)
        self.second.weight.data.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class Folding(nn.Sequential):
    """FoldedConv then ReLU: one fused operation in ONNX Runtime."""

    def __init__(self, width: int, identity: bool, expand: int, bias: bool, leaky: bool = False) -> None:
        activation = nn.LeakyReLU(0.1) if leaky else nn.ReLU()
        super().__init__(FoldedConv(width, width, identity, expand, bias), activation)


class Enlarger(nn.Module):
    """Enlarge by an integer: bicubic skip plus a plain chain of 3 x 3 convolutions at low resolution.

    Args:
        scale: output pixels per input pixel along each axis.
        width: channels of the body.
        depth: 3 x 3 convolutions of the body.
        block: "identity", "collapsed" (as shipped); "plain", "residual", "leaky" or "gate" for comparison.
        bias: give the convolutions biases and the first layer free kernels; False keeps flat fields exactly flat.
        fuse: carry the first features past the body to the last layer.
        hints: channels of what another network knows of each input pixel; its input image is then seen too.
    """

    def __init__(
        self,
        scale: int,
        width: int = 64,
        depth: int = 6,
        block: str = "identity",
        bias: bool = False,
        fuse: bool = True,
        hints: int = 0,
    ) -> None:
        super().__init__()
        self.scale, self.fuse, self.multiple = scale, fuse, 1
        self.description = f"{depth} plain 3x3 convolutions of {width} channels, pixel shuffle, bicubic skip"
        self.head = DifferenceConv(width, bias, 6 if hints else 3)
        self.hints = FoldedConv(hints, width, identity=False) if hints else None
        if self.hints:
            self.hints.weight.data.zero_()
        if block == "gate":
            self.body = nn.Sequential(*(GateBlock(width) for _ in range(depth)))
        elif block == "residual":
            self.body = nn.Sequential(*(Residual(width, bias) for _ in range(depth // 2)))
        else:
            identity, expand = block != "plain", 2 if block == "collapsed" else 0
            self.body = nn.Sequential(*(Folding(width, identity, expand, bias, block == "leaky") for _ in range(depth)))
        self.tail = FoldedConv(width, 3 * scale * scale, identity=False, bias=bias)
        self.tail.weight.data.mul_(0.1)
        phases = torch.from_numpy(bicubic_phases(scale))
        skip = torch.zeros(3, scale * scale, 3, 5, 5)
        for channel in range(3):
            skip[channel, :, channel] = phases
        self.register_buffer("skip", skip.flatten(0, 1), persistent=False)

    def forward(self, x: Tensor, seen: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Enlarge.

        Args:
            x: (N, 3, H, W), RGB of range [0, 1], any size from 1 x 1.
            seen: (N, 3, H, W), the image that x was made of, where the network takes hints.
            known: (N, hints, H, W), the hints.

        Returns:
            (N, 3, H * scale, W * scale), not clipped.
        """
        padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
        with torch.autocast(x.device.type, enabled=False):
            base = F.conv2d(padded.float(), self.skip)
        if self.hints is None or seen is None:
            first = F.relu(self.head(padded))
        else:
            both = torch.cat([padded, F.pad(seen, (2, 2, 2, 2), mode="replicate")], dim=1)
            first = F.relu(self.head(both) + self.hints(known))
        features = self.body(first)
        if self.fuse:
            features = features + first
        return F.pixel_shuffle(base + self.tail(features).float(), self.scale)


class PhotoEnlarger(nn.Module):
    """Restore, then enlarge, in one network: the enlarger sees the damaged image and the restorer's features too.

    Args:
        scale: output pixels per input pixel along each axis.
        width: channels of the restorer at half resolution, and of the enlarger.
        depth: 3 x 3 convolutions of the enlarger's body.
        block: kind of the enlarger's blocks.
        blocks: blocks per stage of the restorer.
    """

    def __init__(self, scale: int, width: int, depth: int, block: str, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.restorer = Denoiser(width, blocks)
        self.enlarger = Enlarger(scale, width, depth, block, hints=width // 4)
        self.multiple = self.restorer.multiple
        self.description = f"{self.restorer.description}; then {self.enlarger.description}"

    def forward(self, x: Tensor) -> Tensor:
        """Restore and enlarge.

        Args:
            x: (N, 3, H, W), RGB of range [0, 1], any size from 1 x 1.

        Returns:
            (N, 3, H * scale, W * scale), not clipped.
        """
        height, width = x.shape[-2:]
        # To a multiple before anything else, as a tile is: both parts then see the same pixels beyond the border.
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        features = self.restorer.features(x)
        damage = F.pixel_shuffle(self.restorer.tail(features).float(), 2)
        large = self.enlarger(x - damage, x, F.pixel_shuffle(features, 2))
        return large[..., : height * self.enlarger.scale, : width * self.enlarger.scale]


def fold(network: nn.Module) -> nn.Module:
    """Replace, in place, every layer that is a sum of branches by the one convolution it amounts to."""
    for name, child in network.named_children():
        if isinstance(child, (DifferenceConv, FoldedConv, HalvingHead)):
            weight = child.folded().detach()
            plain = nn.Conv2d(
                weight.shape[1], weight.shape[0], weight.shape[2], padding=child.padding, bias=child.bias is not None
            )
            plain.weight.data.copy_(weight)
            if child.bias is not None and plain.bias is not None:
                plain.bias.data.copy_(child.bias.detach())
            setattr(network, name, plain)
        else:
            fold(child)
    return network
