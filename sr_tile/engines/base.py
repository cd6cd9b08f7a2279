"""The engine protocol: all that the pipeline knows of a runtime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sr_tile.models.spec import ModelSpec
from sr_tile.tiling.grid import Region
from sr_tile.types import Array, Float32, Pixels


@dataclass(frozen=True)
class Subgraphs:
    """A network of which parts can be run by themselves, on the engine's device.

    Attributes:
        model: in float32, an `onnx.ModelProto`.
        input: name of its input.
        output: name of its output.
        open: a serialised part to a session of ONNX Runtime.
    """

    model: Any
    input: str
    output: str
    open: Callable[[bytes], Any]


@runtime_checkable
class Engine(Protocol):
    """One model on one device.

    Attributes:
        spec: the model's facts, complete: scale and multiple are known.
        device: where it runs, as a user would name it: `cpu`, `cuda:0`.
        identity: tells this model, runtime and device from all others, for caches on disk.
        max_concurrency: threads that may be inside `run` at a time; with several, one batch is computed while the pixels
            of others are moved. All that is not `run` is called while no thread is inside.
        uses_host_memory: whether it computes on the processor, in the memory of this process.
        prefers_few_shapes: whether each new shape of tiles costs it minutes.
        parallel_rows: rows of a batch that it computes side by side, faster than one after another.
        width_step: pixels; tiles whose width is a multiple of it are computed fastest.
        takes_pixels: whether it wants uint8 and uint16 as the file has them, and rounds its results to these.
        number_type: of what the graph takes: float32 or float16.
        empty: makes an array, of a shape and a number type, from which a batch goes to the device fastest; None where all
            memory is alike.
        precision: in which `run` multiplies: `fp32`, `bf16`, `fp16`, `int8`.
        why: how that came about, with what was measured, for people to read.
        bound: where `run` takes fewer bits than `run_exact`, and only as far as a picture bears them: the dB between the
            two that it keeps at least, see `precision.agrees`. None where `run` is for all pictures.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def device(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def max_concurrency(self) -> int: ...

    @property
    def uses_host_memory(self) -> bool: ...

    @property
    def prefers_few_shapes(self) -> bool: ...

    @property
    def parallel_rows(self) -> int: ...

    @property
    def width_step(self) -> int: ...

    @property
    def takes_pixels(self) -> bool: ...

    @property
    def number_type(self) -> type: ...

    @property
    def empty(self) -> Callable[..., np.ndarray] | None: ...

    @property
    def precision(self) -> str: ...

    @property
    def why(self) -> str: ...

    @property
    def bound(self) -> float | None: ...

    def run(self, batch_nchw: Pixels[Array, "n c h w"]) -> Pixels[Array, "n c H W"]:
        """Run the network once.

        Args:
            batch_nchw: (n, channels, height, width), float32, in the model's range of values; of an engine that takes
                pixels, also uint8 or uint16, from black to white. Where the spec has a fixed batch, `n` may be smaller
                and the engine pads.

        Returns:
            (n, channels, height * scale, width * scale), writable, owned by the caller: float32, in the model's range of
            values; of pixels, pixels of the same type, or float32 where rounding would hide what is no number. In memory
            the channels may come last, by which they are copied into a picture faster.

        Raises:
            OutOfMemoryError: the device has no room for it; a smaller batch may fit after `rebuild`.
            ModelOutputError: the model failed, or returned another shape than its scale promises.
        """
        ...

    def run_cropped(self, batch_nchw: Pixels[Array, "n c h w"], regions: Sequence[Region]) -> Pixels[Array, "n c H W"]:
        """As `run`, where of each row's result only a region is needed: the rest may be 0.

        Args:
            batch_nchw: as for `run`.
            regions: one a row, in pixels of the row's input.
        """
        ...

    def run_exact(self, batch_nchw: Pixels[Array, "n c h w"]) -> Float32[Array, "n c H W"] | None:
        """As `run`, to float32 and in float32 throughout, slower; None where `run` is no narrower.

        For tiles whose numbers overflowed, and pictures that bear no fewer bits.

        Raises:
            OutOfMemoryError: the device has no room for both; a smaller batch may fit after `rebuild`.
            ModelOutputError: as `run`.
        """
        ...

    def subgraphs(self) -> "Subgraphs | None":
        """The network as a graph that can be cut; None where it runs as a whole only."""
        ...

    def rebuild(self) -> None:
        """Start the session afresh, so that the memory its arena holds is given back."""
        ...

    def prepare(self, batch: int, tile: tuple[int, int]) -> None:
        """Told the most rows and the largest (height, width) to come, before they come."""
        ...

    def memory_free(self) -> int:
        """Bytes that are free on the device."""
        ...

    def memory_used(self) -> int:
        """Bytes in use on the device, by this process where that can be told."""
        ...

    def close(self) -> None:
        """Give back the session and its memory."""
        ...

    def cancel(self) -> None:
        """End the calls under way, from another thread: they raise a `StoppedError`. Later calls run as ever."""
        ...


def whole(batch_nchw: Pixels[Array, "n c h w"]) -> list[Region]:
    """All of each row, see `Engine.run_cropped`."""
    return [Region(0, 0, *batch_nchw.shape[2:])] * len(batch_nchw)


class WholeResults:
    """For engines, and those around one, whose `run_cropped` leaves nothing out."""

    def run(self, batch_nchw: Pixels[Array, "n c h w"]) -> Pixels[Array, "n c H W"]:
        """See `Engine.run`."""
        raise NotImplementedError

    def run_cropped(self, batch_nchw: Pixels[Array, "n c h w"], regions: Sequence[Region]) -> Pixels[Array, "n c H W"]:
        """See `Engine.run_cropped`."""
        return self.run(batch_nchw)


class BaseEngine(WholeResults):
    """What most engines answer; a runtime's own class inherits it and says where it differs."""

    max_concurrency: int = 1
    uses_host_memory: bool = True
    prefers_few_shapes: bool = False
    parallel_rows: int = 1
    width_step: int = 1
    takes_pixels: bool = False
    empty: Callable[..., np.ndarray] | None = None
    precision: str = "fp32"
    why: str = "as asked for"
    bound: float | None = None

    @property
    def number_type(self) -> type:
        """See `Engine`."""
        return np.float32

    def run_exact(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"] | None:
        """See `Engine.run_exact`: `run` computes in float32."""
        return None

    def subgraphs(self) -> "Subgraphs | None":
        """See `Engine.subgraphs`."""
        return None

    def rebuild(self) -> None:
        """See `Engine.rebuild`: nothing is held between calls."""

    def prepare(self, batch: int, tile: tuple[int, int]) -> None:
        """See `Engine.prepare`: a shape is as good as another."""

    def close(self) -> None:
        """See `Engine.close`: nothing is held."""

    def cancel(self) -> None:
        """See `Engine.cancel`: calls are short."""


def as_most_pictures(engine: Engine, unit_nchw: Float32[Array, "n c h w"]) -> Pixels[Array, "n c h w"]:
    """Numbers from 0 to 1 as the engine is given most pictures, which have 8 bits."""
    return np.rint(unit_nchw * 255).astype(np.uint8) if engine.takes_pixels else unit_nchw
