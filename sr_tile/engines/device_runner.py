"""Engines and the threads that call them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sr_tile.engines.base import Engine, max_concurrency_of
from sr_tile.errors import ArgumentError, DeviceError


class DeviceSlot:
    """An engine and the threads that call it.

    Attributes:
        threads: call it.
        max_concurrency: calls that it takes at a time; all threads' at first, one where memory is too tight for more.
        lost: why it is not called any more.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.threads = self.max_concurrency = max_concurrency_of(engine)
        self.lost: DeviceError | None = None
        self._calling = self._wanting_exclusive = 0
        self._changed = threading.Condition()

    @contextmanager
    def use(self, *, exclusive: bool = False) -> Iterator[Engine]:
        """Call the engine inside: with at most `max_concurrency` threads, or alone."""
        with self._changed:
            if exclusive:
                self._wanting_exclusive += 1
                self._changed.wait_for(lambda: self._calling == 0)
            else:
                self._changed.wait_for(lambda: not self._wanting_exclusive and self._calling < self.max_concurrency)
            self._calling += 1
        try:
            yield self.engine
        finally:
            with self._changed:
                self._calling -= 1
                self._wanting_exclusive -= exclusive
                self._changed.notify_all()


def device_slots(engines: Engine | Sequence[Engine]) -> list[DeviceSlot]:
    """One slot an engine.

    Raises:
        ArgumentError: there is none, or they run different models.
    """
    engines = list(engines) if isinstance(engines, Sequence) else [engines]
    if not engines:
        raise ArgumentError("engines is empty; give one or more")
    for engine in engines[1:]:
        if engine.spec != engines[0].spec:
            raise ArgumentError(
                f"the engines on {engines[0].device} and {engine.device} run different models, {engines[0].spec.name} "
                f"and {engine.spec.name}; give each the same file"
            )
    return [DeviceSlot(engine) for engine in engines]
