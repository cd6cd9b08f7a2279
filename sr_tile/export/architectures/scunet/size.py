"""The hyper-parameters of a SCUNet, read off the names and shapes of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from sr_tile.errors import ModelLoadError
from sr_tile.export.architectures.keys import Shapes, check, count, require
from sr_tile.export.architectures.network import State

MULTIPLE = 64
WINDOW, HEAD, EPSILON = 8, 32, 1e-5
STAGES = ("m_down1", "m_down2", "m_down3", "m_body", "m_up3", "m_up2", "m_up1")
LEVELS = (0, 1, 2, 3, 2, 1, 0)


@dataclass(frozen=True)
class SCUNetSize:
    """Hyper-parameters of one SCUNet: channels in and out, channels at full resolution, blocks of the seven stages."""

    channels: int
    dim: int
    config: tuple[int, ...]

    def describe(self) -> str:
        """For example `SCUNet width 64, blocks 4-4-4-4-4-4-4`."""
        return f"SCUNet width {self.dim}, blocks {'-'.join(map(str, self.config))}"


def recognises(state: State) -> bool:
    """Whether the names are those of a SCUNet."""
    return "m_head.0.weight" in state and any(".trans_block.msa." in name for name in state)


def infer(state: State) -> SCUNetSize:
    """Read the sizes off the weights and check every key; raises ModelLoadError naming the first wrong one."""
    dim, channels, *_ = require(state, "m_head.0.weight", "SCUNet")
    config = [count(state, rf"{stage}\.(\d+)\.trans_block\.") for stage in STAGES]
    # On the way up, place 0 of a stage is the transposed convolution.
    config[4:] = [max(blocks - 1, 0) for blocks in config[4:]]
    # Half of the channels of a stage with blocks is split into heads.
    first = min((level for level, blocks in zip(LEVELS, config, strict=True) if blocks), default=3)
    if dim % (least := max(2 * HEAD >> first, 1)) or not 0 < dim <= 1024:
        raise ModelLoadError(f"SCUNet checkpoint: width {dim} (m_head.0.weight) is not a multiple of {least}")
    size = SCUNetSize(channels, dim, tuple(config))
    check(state, shapes(size), "SCUNet")
    return size


def shapes(size: SCUNetSize) -> Shapes:
    """Every key of the published state dicts with its shape."""
    dim, channels = size.dim, size.channels
    result: Shapes = {"m_head.0.weight": (dim, channels, 3, 3), "m_tail.0.weight": (channels, dim, 3, 3)}
    for i, (stage, level, blocks) in enumerate(zip(STAGES, LEVELS, size.config, strict=True)):
        first, width = int(i > 3), dim << level
        for block in range(blocks):
            result |= _block_shapes(f"{stage}.{block + first}.", width // 2)
        if i < 3:
            result[f"{stage}.{blocks}.weight"] = (2 * width, width, 2, 2)
        elif i > 3:
            result[f"{stage}.0.weight"] = (2 * width, width, 2, 2)
    return result


def _block_shapes(prefix: str, half: int) -> Shapes:
    inner = f"{prefix}trans_block."
    result: Shapes = {
        f"{inner}msa.relative_position_params": (half // HEAD, 2 * WINDOW - 1, 2 * WINDOW - 1),
        f"{prefix}conv_block.0.weight": (half, half, 3, 3),
        f"{prefix}conv_block.2.weight": (half, half, 3, 3),
    }
    for name, shape in (
        (f"{prefix}conv1_1", (2 * half, 2 * half, 1, 1)),
        (f"{prefix}conv1_2", (2 * half, 2 * half, 1, 1)),
        (f"{inner}ln1", (half,)),
        (f"{inner}ln2", (half,)),
        (f"{inner}msa.embedding_layer", (3 * half, half)),
        (f"{inner}msa.linear", (half, half)),
        (f"{inner}mlp.0", (4 * half, half)),
        (f"{inner}mlp.2", (half, 4 * half)),
    ):
        result |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return result
