"""The engine protocol: all that the pipeline knows of a runtime."""

from typing import Protocol, runtime_checkable

import numpy as np

from sr_tile.errors import ArgumentError
from sr_tile.models.spec import ModelSpec
from sr_tile.types import Array, Float32


@runtime_checkable
class Engine(Protocol):
    """One model on one device.

    Attributes:
        spec: the model's facts, complete: scale and multiple are known.
        device: where it runs, as a user would name it: `cpu`, `cuda:0`.
        identity: tells this model, runtime and device from all others, for caches on disk.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def device(self) -> str: ...

    @property
    def identity(self) -> str: ...

    def run(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"]:
        """Run the network once.

        Args:
            batch_nchw: (n, channels, height, width), float32, in the model's range of values; where the spec has a
                fixed batch, `n` may be smaller and the engine pads.

        Returns:
            (n, channels, height * scale, width * scale), float32, writable, owned by the caller.

        Raises:
            OutOfMemoryError: the device has no room for it; a smaller batch may fit after `rebuild`.
            ModelOutputError: the model failed, or returned another shape than its scale promises.
        """
        ...

    def rebuild(self) -> None:
        """Start the session afresh, so that the memory its arena holds is given back."""
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


@runtime_checkable
class ExactEngine(Engine, Protocol):
    """An engine that may have a second, wider arithmetic for tiles whose numbers overflowed."""

    def run_exact(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"] | None:
        """As `run`, in float32 throughout, slower; None where `run` is no narrower than that.

        Raises:
            OutOfMemoryError: the device has no room for both; a smaller batch may fit after `rebuild`.
            ModelOutputError: as `run`.
        """
        ...


@runtime_checkable
class Cancellable(Protocol):
    """What an engine has beside its protocol where its calls wait for those of others."""

    def cancel(self) -> None:
        """End the call under way, from another thread: it raises a `ServingError`. Later calls run as ever."""
        ...


def max_concurrency_of(engine: Engine) -> int:
    """Threads that may be inside `run` at a time, 1 where the engine has no attribute `max_concurrency` that says more.

    An engine with several computes one batch while it moves the pixels of others. All that is not `run` is called while
    no thread is inside.
    """
    return getattr(engine, "max_concurrency", 1)


def on_host(engine: Engine) -> bool:
    """True where the engine computes on the processor, in the memory of this process."""
    return engine.device in ("cpu", "openvino")


def warm_up(engine: Engine, kind: str, batch: int, tile: tuple[int, int]) -> None:
    """Run the engine once at the real shape, so that the first real batch is as fast as the others.

    Args:
        engine: on its device.
        kind: `off`, `zeros` or `random`.
        batch: rows.
        tile: (height, width).

    Raises:
        ArgumentError: another kind.
    """
    if kind == "off":
        return
    shape = (batch, engine.spec.channels, *tile)
    if kind == "zeros":
        engine.run(np.zeros(shape, np.float32))
    elif kind == "random":
        engine.run(np.random.default_rng(0).random(shape, np.float32))
    else:
        raise ArgumentError(f"warm-up {kind!r} is not known; choose off, zeros or random")
