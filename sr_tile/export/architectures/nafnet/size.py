"""The hyper-parameters of a NAFNet, read off the names and shapes of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from sr_tile.errors import ModelLoadError
from sr_tile.export.architectures.keys import Shapes, check, count, require
from sr_tile.export.architectures.network import State

EPSILON = 1e-6
LOCAL_SIDE = 384
"""Side of the pooling window at full resolution: 1.5 times the 256 pixels of the training patches."""


@dataclass(frozen=True)
class NAFNetSize:
    """Hyper-parameters of one NAFNet: blocks per level on the way down, at the bottom and on the way up."""

    channels: int
    width: int
    encoders: tuple[int, ...]
    middle: int
    decoders: tuple[int, ...]

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of it."""
        return 1 << len(self.encoders)

    def describe(self) -> str:
        """For example `NAFNet width 32, blocks 1-1-1-28 / 1 / 1-1-1-1`."""
        down, up = ("-".join(map(str, part)) for part in (self.encoders, self.decoders))
        return f"NAFNet width {self.width}, blocks {down} / {self.middle} / {up}"


def recognises(state: State) -> bool:
    """Whether the names are those of a NAFNet."""
    return "intro.weight" in state and any(".sca.1.weight" in name for name in state)


def infer(state: State) -> NAFNetSize:
    """Read the sizes off the weights and check every key; raises ModelLoadError naming the first wrong one."""
    width, channels, *_ = require(state, "intro.weight", "NAFNet")
    levels = count(state, r"downs\.(\d+)\.")
    if not 1 <= levels <= 8 or width > 4096:
        raise ModelLoadError(f"NAFNet checkpoint: {levels} levels (keys downs.*), supported are 1 to 8")
    size = NAFNetSize(
        channels=channels,
        width=width,
        encoders=tuple(count(state, rf"encoders\.{i}\.(\d+)\.") for i in range(levels)),
        middle=count(state, r"middle_blks\.(\d+)\."),
        decoders=tuple(count(state, rf"decoders\.{i}\.(\d+)\.") for i in range(levels)),
    )
    check(state, shapes(size), "NAFNet")
    return size


def shapes(size: NAFNetSize) -> Shapes:
    """Every key of the published state dicts with its shape."""
    width, levels = size.width, len(size.encoders)
    result: Shapes = {}
    for name, out, into in (("intro", width, size.channels), ("ending", size.channels, width)):
        result |= {f"{name}.weight": (out, into, 3, 3), f"{name}.bias": (out,)}
    stages = [(f"encoders.{i}", n, width << i) for i, n in enumerate(size.encoders)]
    stages += [("middle_blks", size.middle, width << levels)]
    stages += [(f"decoders.{i}", n, width << (levels - 1 - i)) for i, n in enumerate(size.decoders)]
    for stage, blocks, channels in stages:
        for block in range(blocks):
            result |= _block_shapes(f"{stage}.{block}.", channels)
    for i in range(levels):
        result |= {f"downs.{i}.weight": (width << (i + 1), width << i, 2, 2), f"downs.{i}.bias": (width << (i + 1),)}
        deep = width << (levels - i)
        result[f"ups.{i}.0.weight"] = (2 * deep, deep, 1, 1)
    return result


def _block_shapes(prefix: str, width: int) -> Shapes:
    result: Shapes = {prefix + name: (1, width, 1, 1) for name in ("beta", "gamma")}
    wide = 2 * width
    for name, shape in (
        ("conv1", (wide, width, 1, 1)),
        ("conv2", (wide, 1, 3, 3)),
        ("conv3", (width, width, 1, 1)),
        ("sca.1", (width, width, 1, 1)),
        ("conv4", (wide, width, 1, 1)),
        ("conv5", (width, width, 1, 1)),
        ("norm1", (width,)),
        ("norm2", (width,)),
    ):
        result |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    return result
