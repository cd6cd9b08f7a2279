"""Work of a runtime that ends: when it takes too long, and when someone else wants it to.

A model may hold a loop that never ends, and a call is one function of a library, which no signal interrupts. ONNX Runtime
looks at `RunOptions.terminate` before every operator, those of a loop's body too, and OpenVINO likewise; but one operator
alone may take days. Opening a session is such a function as well: a graph of constants alone is computed there, and neither
runtime ends that (ONNX Runtime looks at its cancellation flag between its passes, and folding constants is one pass).

So both are done in a thread, and waited for; one that does not end is left behind. A process in place of the thread could
be killed, but takes 0.1 s more and opens each model twice, for it cannot hand over what it made; and OpenVINO compiles for
every shape of tiles. A thread takes 0.1 ms. A process that left one behind ends by `stopping.leave`: libraries abort where
their threads outlive them.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from sr_tile.errors import ModelTimeoutError, StoppedError
from sr_tile.system import stopping

log = logging.getLogger("sr_tile")

Made = TypeVar("Made")

OPENING_SECONDS = 600.0  # the largest networks take a hundredth of this on two cores
LEAST_SECONDS = 120.0
SECONDS_PER_PIXEL = 0.01  # the slowest networks take a hundredth of this on two cores
MORE_SECONDS = 30.0  # for the operator under way to end, once a call is to


def time_limit(batch_nchw: np.ndarray) -> float:
    """Seconds that a call with this input may take: no sound model comes near."""
    rows, _, height, width = batch_nchw.shape
    return LEAST_SECONDS + SECONDS_PER_PIXEL * rows * height * width


def too_slow(model: str, limit: float) -> ModelTimeoutError:
    """What to say of a call that was ended."""
    return ModelTimeoutError(
        f"model {model}: one call did not end within {limit:.0f} s, and was stopped; its graph may hold an endless loop, "
        "or this machine is too slow for it: use a smaller --tile-size or --batch-size"
    )


_left_behind: dict[object, threading.Thread] = {}  # by what it was for, what goes on still


class LeftBehindError(Exception):
    """What was to be made goes on in a thread that nobody waits for."""


def in_time(make: Callable[[], Made], limit: float, key: object) -> Made:
    """What is made in a thread of its own, which is left behind where it does not end; without limit if none can be had.

    Args:
        make: what it raises is raised here.
        limit: seconds.
        key: of what is made. Where that was left behind before, and goes on still, nothing is begun.

    Raises:
        LeftBehindError: it took longer.
    """
    before = _left_behind.get(key)
    if before is None or not before.is_alive():
        future: Future[Made] = Future()
        thread = threading.Thread(target=_fulfil, args=(future, make), name="sr-tile in time", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.debug("made without a limit of time: %s", error)
            return make()
        thread.join(limit)
        if not thread.is_alive():
            return future.result()
        _left_behind[key] = thread
        stopping.leave_at_end()
    raise LeftBehindError


def _fulfil(future: "Future[Made]", make: "Callable[[], Made]") -> None:
    try:
        future.set_result(make())
    except BaseException as error:
        future.set_exception(error)


def opened(make: Callable[[], Made], model: str) -> Made:
    """A session or compiled network, see `in_time`.

    Args:
        make: opens it.
        model: what messages call it.

    Raises:
        ModelTimeoutError: it took longer than `OPENING_SECONDS`.
    """
    limit = OPENING_SECONDS
    try:
        return in_time(make, limit, model)
    except LeftBehindError:
        raise ModelTimeoutError(
            f"model {model}: opening it did not end within {limit:.0f} s; its graph may compute constants without end, or "
            "this machine is too slow for it: get another model"
        ) from None


class TimedCalls:
    """The calls of one engine; any thread may make them, or cancel those under way.

    Args:
        model: what messages call it.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._active: dict[Any, float] = {}  # options of a call to its deadline
        self._cancelled: set[Any] = set()
        self._changed = threading.Condition()
        self._watcher: threading.Thread | None = None

    def run(
        self, session: Any, options: Any, batch_nchw: np.ndarray, outputs: int = 1, *, in_thread: bool = False
    ) -> list[np.ndarray]:
        """The first outputs of a session with one input.

        Args:
            session: of ONNX Runtime.
            options: `RunOptions` of this call alone.
            batch_nchw: the input.
            outputs: how many are wanted.
            in_thread: the call is left behind where one operator does not end. Not on a GPU, whose runtime keeps memory
                for each thread.

        Raises:
            ModelTimeoutError: it took too long.
            StoppedError: `cancel` was called.
        """
        name, wanted = session.get_inputs()[0].name, [output.name for output in session.get_outputs()[:outputs]]

        def call() -> list[np.ndarray]:
            return [np.asarray(output) for output in session.run(wanted, {name: batch_nchw}, options)]

        with self.limited(options, batch_nchw):
            return in_time(call, time_limit(batch_nchw) + MORE_SECONDS, self) if in_thread else call()

    @contextlib.contextmanager
    def limited(self, options: Any, batch_nchw: np.ndarray) -> Iterator[None]:
        """A block with one call that has these `RunOptions` and this input; raises what `run` raises."""
        limit = time_limit(batch_nchw)
        deadline = time.monotonic() + limit
        options.terminate = False
        with self._changed:
            self._active[options] = deadline
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="sr-tile time limit", daemon=True)
                self._watcher.start()
            elif len(self._active) == 1:
                self._changed.notify()
        try:
            yield
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            if not options.terminate and not isinstance(error, LeftBehindError):
                raise
            if options in self._cancelled:
                raise StoppedError(f"model {self._model}: a call was cancelled") from error
            raise too_slow(self._model, limit) from error
        finally:
            with self._changed:
                del self._active[options]
                self._cancelled.discard(options)

    def cancel(self) -> None:
        """End the calls under way, from another thread: they raise `StoppedError`."""
        with self._changed:
            for options in self._active:
                self._cancelled.add(options)
                options.terminate = True

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for options, deadline in self._active.items():
                    options.terminate = options.terminate or deadline <= now
                coming = [deadline for options, deadline in self._active.items() if not options.terminate]
                self._changed.wait(min(coming) - now if coming else None)
