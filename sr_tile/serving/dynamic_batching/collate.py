"""How requests become one batch and the answer becomes answers.

A request is the tuple of what `predict` was called with. Only requests with equal keys meet in a batch, so a shape that the
others do not have never spoils their batch.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from sr_tile.errors import ArgumentError, ModelOutputError
from sr_tile.tiling.grid import round_up

Request = tuple[Any, ...]


class Batcher(Protocol):
    """Puts requests together and takes answers apart."""

    def key(self, request: Request) -> Hashable:
        """Requests with equal keys may share a batch.

        Raises:
            ArgumentError: this is no request that the model could take; nothing was queued.
        """
        ...

    def rows(self, request: Request) -> int:
        """Rows of the batch that the request fills."""
        ...

    def batch(self, requests: Sequence[Request]) -> tuple[tuple[Any, ...], Any]:
        """(the arguments of one call of `predict_batch`, what `unbatch` needs to know)."""
        ...

    def unbatch(self, outputs: Any, context: Any) -> list[Any]:
        """One answer for each request, in their order.

        Raises:
            ModelOutputError: the outputs are not those of this batch.
        """
        ...


class ConcatBatcher:
    """Joins arrays along their first axis; those of different shape or type run in batches of their own.

    Each argument of `predict` is an array of (rows, ...); so is what `predict_batch` returns, or a tuple of such arrays.
    """

    def key(self, request: Request) -> Hashable:
        """Shapes without rows, and types; see `Batcher.key`."""
        _check(request)
        return tuple((array.shape[1:], array.dtype.str) for array in request)

    def rows(self, request: Request) -> int:
        """See `Batcher.rows`."""
        return len(request[0])

    def batch(self, requests: Sequence[Request]) -> tuple[tuple[Any, ...], Any]:
        """See `Batcher.batch`."""
        if len(requests) == 1:
            return requests[0], [self.rows(requests[0])]
        joined = tuple(np.concatenate(arrays) for arrays in zip(*requests, strict=True))
        return joined, [self.rows(request) for request in requests]

    def unbatch(self, outputs: Any, context: Any) -> list[Any]:
        """See `Batcher.unbatch`."""
        several = isinstance(outputs, tuple | list)
        columns = [_split(output, context) for output in (outputs if several else (outputs,))]
        return [tuple(row) if several else row[0] for row in zip(*columns, strict=True)]


class PadBatcher(ConcatBatcher):
    """Joins arrays of different sizes: all become as large as the largest, and outputs are cropped back.

    For models whose answer does not depend on what lies beside the array; convolutions do see it.

    Args:
        axes: which axes may differ; 0 is that of the rows.
        value: what fills the rest.
        scale: output length over input length along these axes; 0 leaves the outputs as they are.
    """

    def __init__(self, axes: Sequence[int], value: float = 0.0, scale: int = 1) -> None:
        if not axes or min(axes) < 1:
            raise ArgumentError(f"axes {tuple(axes)} must be 1 or more each: axis 0 is that of the rows")
        if scale < 0:
            raise ArgumentError(f"scale {scale} must be 0 or more")
        self.axes, self.value, self.scale = tuple(axes), value, scale

    def key(self, request: Request) -> Hashable:
        """Shapes but for the axes that may differ, and types; see `Batcher.key`."""
        _check(request, max(self.axes) + 1)
        return tuple((self._fixed(array), array.dtype.str, self._class_of(array)) for array in request)

    def batch(self, requests: Sequence[Request]) -> tuple[tuple[Any, ...], Any]:
        """See `Batcher.batch`."""
        padded = []
        for arrays in zip(*requests, strict=True):
            lengths = [max(self._padded(array)[i] for array in arrays) for i in range(len(self.axes))]
            padded.append(np.concatenate([self._pad(array, lengths) for array in arrays]))
        sizes = [[request[0].shape[axis] for axis in self.axes] for request in requests]
        return tuple(padded), ([self.rows(request) for request in requests], sizes)

    def unbatch(self, outputs: Any, context: Any) -> list[Any]:
        """See `Batcher.unbatch`."""
        rows, sizes = context
        answers = super().unbatch(outputs, rows)
        if not self.scale:
            return answers
        return [
            tuple(self._crop(part, size) for part in answer) if isinstance(answer, tuple) else self._crop(answer, size)
            for answer, size in zip(answers, sizes, strict=True)
        ]

    def _class_of(self, array: np.ndarray) -> Hashable:
        """What else must agree."""
        return None

    def _padded(self, array: np.ndarray) -> list[int]:
        """Lengths along `axes` that the array needs at least."""
        return [array.shape[axis] for axis in self.axes]

    def _fixed(self, array: np.ndarray) -> tuple[int, ...]:
        return tuple(length for axis, length in enumerate(array.shape) if axis and axis not in self.axes)

    def _pad(self, array: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        missing = [(0, 0)] * array.ndim
        for axis, length in zip(self.axes, lengths, strict=True):
            missing[axis] = (0, length - array.shape[axis])
        return np.pad(array, missing, constant_values=self.value)

    def _crop(self, output: np.ndarray, size: Sequence[int]) -> np.ndarray:
        cut = [slice(None)] * output.ndim
        for axis, length in zip(self.axes, size, strict=True):
            wanted = length * self.scale
            if axis >= output.ndim or output.shape[axis] < wanted:
                raise ModelOutputError(
                    f"predict_batch returned {output.shape}, of which axis {axis} should have {wanted} or more; give the "
                    "batcher the model's scale, or 0"
                )
            cut[axis] = slice(wanted)
        return output[tuple(cut)]


class BucketBatcher(PadBatcher):
    """As `PadBatcher`, but only arrays of about the same size meet: one call for each class of shapes.

    Args:
        axes: which axes may differ; 0 is that of the rows.
        step: lengths are rounded up to a multiple of it, and what is equal then is one class; 1 pads nothing.
        value: what fills the rest.
        scale: as for `PadBatcher`.
    """

    def __init__(self, axes: Sequence[int], step: int = 1, value: float = 0.0, scale: int = 1) -> None:
        super().__init__(axes, value, scale)
        if step < 1:
            raise ArgumentError(f"step {step} must be 1 or more")
        self.step = step

    def _class_of(self, array: np.ndarray) -> Hashable:
        return tuple(self._padded(array))

    def _padded(self, array: np.ndarray) -> list[int]:
        return [round_up(array.shape[axis], self.step) for axis in self.axes]


class ListBatcher:
    """For a `predict_batch` that takes a list and returns one of the same length: `Enhancer.enhance_batch`."""

    def key(self, request: Request) -> Hashable:
        """All meet; see `Batcher.key`."""
        if len(request) != 1:
            raise ArgumentError(f"predict was given {len(request)} arguments; this model takes one")
        return None

    def rows(self, request: Request) -> int:
        """See `Batcher.rows`."""
        return 1

    def batch(self, requests: Sequence[Request]) -> tuple[tuple[Any, ...], Any]:
        """See `Batcher.batch`."""
        return ([item for (item,) in requests],), len(requests)

    def unbatch(self, outputs: Any, context: Any) -> list[Any]:
        """See `Batcher.unbatch`."""
        if len(outputs) != context:
            raise ModelOutputError(f"predict_batch returned {len(outputs)} results for {context} requests")
        return list(outputs)


class CustomBatcher:
    """Two functions of your own.

    Args:
        batch: takes the list of requests, each the tuple of `predict`'s arguments; returns (arguments of `predict_batch`
            as a tuple, whatever `unbatch` needs).
        unbatch: takes (what `predict_batch` returned, what `batch` left for it); returns one answer for each request.
        key: requests with equal keys may share a batch; all may where it is None.
        rows: rows that a request fills; 1 where it is None.
    """

    def __init__(
        self,
        batch: Callable[[Sequence[Request]], tuple[tuple[Any, ...], Any]],
        unbatch: Callable[[Any, Any], list[Any]],
        key: Callable[[Request], Hashable] | None = None,
        rows: Callable[[Request], int] | None = None,
    ) -> None:
        self.batch, self.unbatch = batch, unbatch
        self.key: Callable[[Request], Hashable] = key or (lambda request: None)
        self.rows: Callable[[Request], int] = rows or (lambda request: 1)


def _check(request: Request, axes: int = 1) -> None:
    """Arrays with rows, the same number in each.

    Raises:
        ArgumentError: something else.
    """
    for position, array in enumerate(request):
        if not isinstance(array, np.ndarray) or array.ndim < axes:
            got = f"an array of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ArgumentError(f"argument {position} is {got}; it must be an array of {axes} axes or more, rows first")
        if not len(array) or len(array) != len(request[0]):
            raise ArgumentError(
                f"argument {position} has {len(array)} rows and argument 0 has {len(request[0])}; "
                "all must have the same number, 1 or more"
            )
    if not request:
        raise ArgumentError("predict was given nothing; give it one array or more")


def _split(output: Any, rows: list[int]) -> list[Any]:
    """The pieces of one output, checked."""
    if not hasattr(output, "shape") or not output.shape or output.shape[0] != sum(rows):
        got = f"shape {output.shape}" if hasattr(output, "shape") else type(output).__name__
        raise ModelOutputError(f"predict_batch returned {got} for a batch of {sum(rows)} rows; it must have as many")
    ends = np.cumsum(rows)
    return [output[end - count : end] for end, count in zip(ends, rows, strict=True)]
