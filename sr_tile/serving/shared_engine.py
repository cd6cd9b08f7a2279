"""One engine for many pipelines: tiles of many images, of many callers, share batches.

Each caller runs a `Pipeline` of its own with a `TileClient` as its engine. So what is decoded, how it is cut and blended,
and what is written are those of `Enhancer`, and so are the pixels, as far as a network answers for a tile what it answers
for it in any batch.
"""

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, wait
from typing import Any

import numpy as np

from sr_tile.engines.base import Engine, whole
from sr_tile.engines.device_runner import DeviceRunner, DeviceSlot, TileTooLargeError, device_slots
from sr_tile.engines.integer_ends import alike
from sr_tile.errors import ArgumentError, DeadlineError, OutOfMemoryError, Overloaded, StoppedError
from sr_tile.planner import Plan
from sr_tile.serving.dynamic_batching.batcher import Call, DynamicBatcher
from sr_tile.serving.dynamic_batching.collate import Request
from sr_tile.tiling.grid import Region

RECOVERY = 64  # calls without a failure after which a device that ran out of memory is given more again


class TileBatcher:
    """Tiles of one shape to NCHW; a request is (tile_chw, whether it is run in float32, what is needed of its result)."""

    def key(self, request: Request) -> Hashable:
        """Tiles of equal shape, number type and precision meet."""
        return request[0].shape, request[0].dtype, request[1]

    def rows(self, request: Request) -> int:
        """One."""
        return 1

    def batch(self, requests: Sequence[Request]) -> tuple[tuple[Any, ...], Any]:
        """((n, c, h, w), precision, regions) for `SharedEngine._predict`."""
        tiles, exact, regions = zip(*requests, strict=True)
        return (tiles[0][None] if len(tiles) == 1 else np.stack(tiles), exact[0], regions), None

    def unbatch(self, outputs: Any, context: Any) -> list[Any]:
        """(c, h * scale, w * scale) for each."""
        return list(outputs)


class SharedEngine:
    """Owns an engine, or one for each device, and runs the tiles of many clients on it.

    >>> with SharedEngine(engine, plan) as shared, shared.client() as client:  # doctest: +SKIP
    ...     for outcome in Pipeline(client, shared.plan, decoders=1, encoders=1).run([job]):
    ...         ...

    Args:
        engines: one or several with the same model; from now on nobody else may call them. They stay open.
        plan: tiles and batch, from `make_plan`; a batch of small tiles has as many pixels as one of large tiles.
        max_wait_ms: how long an incomplete batch waits for more tiles.
        max_clients: clients at the same time; each holds the rows of its image that are under way.
        on_call: is told of each call of the engine; weights are pixels, or rows for a model with a fixed batch.

    Raises:
        ArgumentError: the engines' models differ, or a number is out of its range.
    """

    def __init__(
        self,
        engines: Engine | Sequence[Engine],
        plan: Plan,
        *,
        max_wait_ms: float = 5.0,
        max_clients: int = 64,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        self.engines: list[Engine] = list(engines) if isinstance(engines, Sequence) else [engines]
        if max_clients < 1:
            raise ArgumentError(f"max_clients {max_clients} must be 1 or more")
        self.plan, self.max_clients = plan, max_clients
        limit = plan.batch * math.prod(plan.tile)
        self._runner = DeviceRunner(device_slots(self.engines), limit, in_pixels=True, recovery=RECOVERY)
        rows = self.engines[0].spec.fixed_batch

        def weigh(request: Request) -> int:
            return min(limit, math.prod(request[0].shape[1:]))

        self.batcher = DynamicBatcher(
            [functools.partial(self._predict, slot) for slot in self._runner.threads],
            TileBatcher(),
            max_batch_size=rows or limit,
            max_wait_ms=max_wait_ms,
            max_queue=None,  # clients are bounded, and so are the tiles of each
            weigh=None if rows else weigh,
            on_call=on_call,
        )
        self._changed = threading.Condition()
        self._clients: set[TileClient] = set()
        self._open = False

    def start(self) -> "SharedEngine":
        """Begin to serve; also again after `stop`."""
        with self._changed:
            self.batcher.start()
            self._open = True
        return self

    def stop(self, drain: bool = True, timeout: float | None = None) -> None:
        """End; when it returns, no client waits.

        Args:
            drain: let the clients there are finish their images, until they close; otherwise they fail with
                `StoppedError` at once.
            timeout: seconds after which they fail in any case; None waits.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._open = False
            if drain:
                self._changed.wait_for(lambda: not self._clients, timeout)
        left = None if end is None else max(0.0, end - time.monotonic())
        self.batcher.stop(drain=False, timeout=left)

    def __enter__(self) -> "SharedEngine":
        return self.start()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop(drain=error is None)

    @property
    def clients(self) -> int:
        """Clients that are not closed."""
        return len(self._clients)

    def is_alive(self) -> bool:
        """True where a device is left; those that were lost are opened again from time to time, also by asking this."""
        return self._runner.is_alive()

    def client(
        self, name: str = "image", *, share: float = 1.0, timeout: float | None = None, exact: bool = False
    ) -> "TileClient":
        """An engine for one caller's pipeline; close it when the pipeline has ended, or to cancel it.

        Args:
            name: what messages call it.
            share: how much faster than others its tiles are served.
            timeout: seconds after which its calls raise `DeadlineError`.
            exact: all in float32, also where the engine's `run` takes fewer bits.

        Raises:
            Overloaded: there are `max_clients` already.
            StoppedError: the engine is stopped, or about to.
        """
        if not share > 0:
            raise ArgumentError(f"share {share} must be more than 0")
        with self._changed:
            if not self._open:
                raise StoppedError("the engine is not running or about to stop; send the image to another server")
            if len(self._clients) >= self.max_clients:
                raise Overloaded(f"{len(self._clients)} images are under way, as many as may be; try again later")
            client = TileClient(self, name, share, timeout, exact)
            self._clients.add(client)
        return client

    def _predict(self, own: DeviceSlot, batch_nchw: np.ndarray, exact: bool, regions: Sequence[Region]) -> np.ndarray:
        """Run a batch on a worker's own device, or on another where that is gone; rows that overflow in float32."""
        outputs = []
        try:
            for piece in self._runner.run(own, batch_nchw, exact=exact, regions=regions):
                if piece.error:
                    raise piece.error
                outputs.append(piece.output_nchw)
        except TileTooLargeError:
            self._shrink(batch_nchw.shape[2:])
            raise
        finally:
            piece = None  # type: ignore[assignment]  # an error knows this frame: no reference cycle may keep tiles until the collector comes
        return outputs[0] if len(outputs) == 1 else np.concatenate(alike(outputs, self.engines[0].spec.value_range))

    def _release(self, client: "TileClient") -> None:
        with self._changed:
            self._clients.discard(client)
            self._changed.notify_all()

    def _shrink(self, tile: tuple[int, int]) -> None:
        """Later images start with smaller tiles, as that of the client that met the limit goes on with."""
        with self._changed:
            if tile[0] * tile[1] >= math.prod(self.plan.tile):
                with contextlib.suppress(OutOfMemoryError):  # the clients' pipelines say so
                    self.plan = self.plan.smaller()


class TileClient:
    """An `Engine` whose tiles run in batches with those of others; any thread may close or cancel it.

    What it does not say itself, the first of the engines does.

    Attributes:
        name: what messages call it.
        max_concurrency: threads that may be inside `run`: as many as keep all devices busy for one client alone.
    """

    def __init__(self, shared: SharedEngine, name: str, share: float, timeout: float | None, exact: bool) -> None:
        self._shared, self.name, self._share, self._exact = shared, name, share, exact
        self._end = None if timeout is None else time.monotonic() + timeout
        self._caller = object()  # the queue remembers it for a while, and must not hold on to tiles
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self.max_concurrency = len(shared._runner.threads)
        self._closed = False

    @property
    def _engine(self) -> Engine:
        return self._shared.engines[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def takes_pixels(self) -> bool:
        """See `Engine`; each of the devices may get a tile."""
        return all(engine.takes_pixels for engine in self._shared.engines)

    @property
    def empty(self) -> None:
        """See `Engine`; batches are made of what several callers bring."""

    @property
    def precision(self) -> str:
        """See `Engine`."""
        return "fp32" if self._exact else self._engine.precision

    @property
    def bound(self) -> float | None:
        """See `Engine`."""
        return None if self._exact else self._engine.bound

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        """See `Engine.run`; its rows may run in several batches.

        Raises:
            OutOfMemoryError: not even one tile fits.
            DeadlineError: the client's time ran out.
            StoppedError: the engine was stopped, or the client cancelled or closed.
        """
        return self.run_cropped(batch_nchw, whole(batch_nchw))

    def run_cropped(self, batch_nchw: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
        """See `Engine.run_cropped`; raises what `run` raises."""
        return np.stack(alike(self._answers(batch_nchw, regions, exact=self._exact), self.spec.value_range))

    def run_exact(self, batch_nchw: np.ndarray) -> np.ndarray | None:
        """See `Engine.run_exact`; None for tiles that overflow: what owns the devices runs those again by itself."""
        return None if self.bound is None else np.stack(self._answers(batch_nchw, whole(batch_nchw), exact=True))

    def _answers(self, batch_nchw: np.ndarray, regions: Sequence[Region], exact: bool) -> list[Any]:
        left = None if self._end is None else self._end - time.monotonic()
        with self._lock:
            if self._closed:
                raise StoppedError(f"{self.name}: was cancelled")
            # Row by row, so that rows of others come between them.
            futures = self._shared.batcher.submit_all(
                [(tile, exact, region) for tile, region in zip(batch_nchw, regions, strict=True)],
                timeout=left,
                caller=self._caller,
                share=self._share,
            )
            self._futures.update(futures)
        try:
            done, waiting = wait(futures, left, return_when=FIRST_EXCEPTION)
            if not waiting:
                answers = []
                for future in futures:
                    answers.append(future.result())  # a comprehension is a frame, see below
                return answers
            for future in done:
                future.result()
            raise DeadlineError(f"{self.name}: was not done in time; allow more, or send a smaller image")
        except CancelledError:
            raise StoppedError(f"{self.name}: was cancelled") from None
        finally:
            for future in futures:
                future.cancel()
            with self._lock:
                self._futures.difference_update(futures)
            # An error knows this frame: without them there is no circle that keeps tiles until the collector comes.
            del futures, batch_nchw
            done = waiting = future = None  # type: ignore[assignment]

    def cancel(self) -> None:
        """See `Engine.cancel`: what waits leaves the queue at once."""
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def prepare(self, batch: int, tile: tuple[int, int]) -> None:
        """Nothing, see `rebuild`."""

    def rebuild(self) -> None:
        """Nothing: the device belongs to all clients, and what owns it gives its memory back where that is needed."""

    def close(self) -> None:
        """End the client: a pipeline that still runs on it ends with `StoppedError`. Harmless when called twice."""
        with self._lock:
            self._closed = True
        self.cancel()
        self._shared._release(self)

    def __enter__(self) -> "TileClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
