"""Models whose calls the test lets through one by one, and threads that never outlive their test."""

import threading
import time
from collections.abc import Callable

import numpy as np

PATIENCE = 20  # seconds after which a test that hangs fails instead


class Gate:
    """Twice its input; each call waits until the test opens the gate for it, and is recorded."""

    def __init__(self, is_open: bool = False) -> None:
        self.batches: list[list[float]] = []
        self._entered = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self._always = threading.Event()
        if is_open:
            self._always.set()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch[:, 0].tolist())
        self._entered.release()
        end = time.monotonic() + PATIENCE
        while not self._always.is_set() and not self._passes.acquire(timeout=0.01):
            if time.monotonic() > end:
                raise TimeoutError("the test has forgotten this call")
        return self.answer(batch)

    def answer(self, batch: np.ndarray) -> np.ndarray:
        return batch * 2

    def wait_for_call(self) -> None:
        """Until one more call has begun."""
        assert self._entered.acquire(timeout=PATIENCE)

    def let_through(self, calls: int = 1) -> None:
        self._passes.release(calls)

    def open(self) -> None:
        self._always.set()


def row(value: float) -> np.ndarray:
    """A request of one row."""
    return np.full((1, 2), value)


class Threads:
    """Runs functions at once; their results in order, or the first error."""

    def __init__(self, *functions: Callable[[], object]) -> None:
        self.results: list[object] = [None] * len(functions)
        self.errors: list[BaseException | None] = [None] * len(functions)
        self._threads = [
            threading.Thread(target=self._run, args=(number, function), daemon=True)
            for number, function in enumerate(functions)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int, function: Callable[[], object]) -> None:
        try:
            self.results[number] = function()
        except BaseException as error:
            self.errors[number] = error

    def join(self) -> "Threads":
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "hangs"
        return self

    def get(self) -> list[object]:
        self.join()
        for error in self.errors:
            if error:
                raise error
        return self.results
