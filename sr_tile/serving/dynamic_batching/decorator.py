"""`@batching`: a class with `predict_batch` gets a `host`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sr_tile.errors import ArgumentError
from sr_tile.serving.dynamic_batching.batcher import DynamicBatcher
from sr_tile.serving.dynamic_batching.collate import Batcher

Model = TypeVar("Model", bound=type)


def batching(
    batcher: Batcher | None = None,
    *,
    max_batch_size: int = 32,
    max_wait_ms: float = 5.0,
    max_queue: int | None = 1024,
    workers: int = 1,
    devices: Sequence[str] = (),
) -> Callable[[Model], Model]:
    """Give a class the method `host`, which makes a model and the `DynamicBatcher` that calls it.

    >>> @batching(max_batch_size=32, max_wait_ms=5)
    ... class Double:
    ...     def predict_batch(self, x):
    ...         return x * 2
    >>> with Double.host() as host:
    ...     host.predict(np.ones((1, 2))).tolist()
    [[2.0, 2.0]]

    Args:
        batcher: how requests become one batch; by default they are joined along their first axis.
        max_batch_size: rows of a batch at most.
        max_wait_ms: how long an incomplete batch waits for more.
        max_queue: requests that wait at most; None is no bound.
        workers: threads that call each model, which must bear it.
        devices: a model is made for each, with the argument `device`; one without it where there are none.

    Returns:
        A decorator. `host(...)` takes what the class takes.

    Raises:
        ArgumentError: the class has no `predict_batch`, or there are no workers.
    """
    if workers < 1:
        raise ArgumentError(f"workers {workers} must be 1 or more")

    def decorate(model: Model) -> Model:
        if not callable(getattr(model, "predict_batch", None)):
            raise ArgumentError(f"class {model.__name__} has no method predict_batch; add one to batch its requests")

        def host(kind: type, *arguments: Any, **keywords: Any) -> DynamicBatcher:
            options = [{**keywords, "device": device} for device in devices] or [keywords]
            models = [kind(*arguments, **option) for option in options]
            return DynamicBatcher(
                [made.predict_batch for made in models for _ in range(workers)],
                batcher,
                max_batch_size=max_batch_size,
                max_wait_ms=max_wait_ms,
                max_queue=max_queue,
            )

        model.host = classmethod(host)  # type: ignore[attr-defined]
        return model

    return decorate
