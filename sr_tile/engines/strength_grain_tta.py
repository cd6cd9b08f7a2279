"""A network whose result is softened, given its grain back, or averaged over the eight turns of its input."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sr_tile.engines.base import Engine, WholeResults
from sr_tile.errors import ArgumentError
from sr_tile.models.spec import ModelSpec
from sr_tile.tiling.channels import enlarge_bicubic
from sr_tile.types import Array, Float32

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # BT.601
_BICUBIC_HALO = 2


@dataclass(frozen=True)
class Adjustment:
    """What is done to the results of a network.

    Attributes:
        strength: share of the network's result, 0 to 1; the rest is the input, enlarged by bicubic interpolation.
        keep_grain: share of what the network took from luma that is given back, 0 to 1; of networks that do not enlarge.
        tta: the mean of the results of the eight turns and mirror images of the input (test-time augmentation, Timofte et
            al., CVPR 2016), in eight times the time.

    Raises:
        ArgumentError: a share beyond 0 to 1.
    """

    strength: float = 1.0
    keep_grain: float = 0.0
    tta: bool = False

    def __post_init__(self) -> None:
        for name in ("strength", "keep_grain"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} {getattr(self, name)} is no share; give a number from 0 to 1")

    def of(self, engine: Engine) -> Engine:
        """The engine, adjusted where there is something to adjust.

        Raises:
            ArgumentError: grain of a network that enlarges, or turns of tiles that are not square.
        """
        if self == Adjustment():
            return engine
        spec = engine.spec
        if self.keep_grain and (spec.scale or 1) > 1:
            raise ArgumentError(
                f"model {spec.name} enlarges by {spec.scale}: grain is kept of models that do not enlarge"
            )
        if self.tta and spec.fixed_tile and spec.fixed_tile[0] != spec.fixed_tile[1]:
            raise ArgumentError(f"model {spec.name}: its tiles are not square and cannot be turned; leave tta out")
        return AdjustedEngine(engine, self)


class AdjustedEngine(WholeResults):
    """See `Engine`; all but its calls, which take floats, are those of `engine`."""

    takes_pixels = False

    def __init__(self, engine: Engine, adjustment: Adjustment) -> None:
        self._engine, self._adjustment = engine, adjustment
        self.identity = f"{engine.identity} {adjustment}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def spec(self) -> ModelSpec:
        """Of the network; bicubic interpolation looks around as well."""
        spec = self._engine.spec
        return spec if spec.halo is None else replace(spec, halo=max(spec.halo, _BICUBIC_HALO))

    def run(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"]:
        """See `Engine.run`."""
        output = self._turned(self._engine.run, batch_nchw)
        assert output is not None
        return self._adjusted(batch_nchw, output)

    def run_exact(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"] | None:
        """See `Engine.run_exact`."""
        output = self._turned(self._engine.run_exact, batch_nchw)
        return None if output is None else self._adjusted(batch_nchw, output)

    def _turned(self, run: Callable[[np.ndarray], np.ndarray | None], batch_nchw: np.ndarray) -> np.ndarray | None:
        """The mean over all turns, each turned back; None where `run` has nothing to say."""
        output = run(batch_nchw)
        if output is None or not self._adjustment.tta:
            return output
        for turn in range(1, 8):
            result = run(np.ascontiguousarray(_turn(batch_nchw, turn)))
            assert result is not None  # as it was not of the same network just before
            output += _turn_back(result, turn)
        output /= 8
        return output

    def _adjusted(self, batch_nchw: np.ndarray, output: np.ndarray) -> np.ndarray:
        strength, grain = np.float32(self._adjustment.strength), np.float32(self._adjustment.keep_grain)
        if grain:
            lost = batch_nchw - output
            luma = lost if lost.shape[1] == 1 else np.tensordot(_LUMA, lost, (0, 1))[:, None]
            output += grain * luma
        if strength < 1:
            scale = self._engine.spec.scale or 1
            plain = np.stack([enlarge_bicubic(tile_chw, scale) for tile_chw in batch_nchw])
            output = strength * output + (1 - strength) * plain
        return output


def _turn(batch_nchw: np.ndarray, turn: int) -> np.ndarray:
    turned = np.rot90(batch_nchw, turn % 4, axes=(2, 3))
    return turned[..., ::-1] if turn >= 4 else turned


def _turn_back(batch_nchw: np.ndarray, turn: int) -> np.ndarray:
    return np.rot90(batch_nchw[..., ::-1] if turn >= 4 else batch_nchw, -(turn % 4), axes=(2, 3))
