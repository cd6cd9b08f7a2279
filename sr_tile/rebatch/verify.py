"""Whether two engines give the same pictures: row by row, at several sizes, on noise and on smooth pictures."""

from collections.abc import Iterator

import numpy as np

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ModelError
from sr_tile.models.spec import ModelSpec
from sr_tile.tiling.blending import to_range
from sr_tile.tiling.grid import round_up

_CENTRE = 1e-2

Size = tuple[int, int]


def tolerance(engine: OnnxEngine) -> float:
    """The largest difference that is taken for rounding, of the model's range of values."""
    return 1e-2 if engine.number_type == np.float16 else 1e-5


def compare(original: OnnxEngine, new: OnnxEngine) -> tuple[float, list[str]]:
    """Rows of the new model against the original's, each by itself, at sizes that both take."""
    worst, runs = 0.0, []
    sizes = [original.spec.fixed_tile or new.spec.fixed_tile]
    if new.spec.fixed_tile and original.spec.fixed_tile not in (None, new.spec.fixed_tile):
        return worst, [f"{original.spec.fixed_tile} is not taken any more: not compared"]
    for size in sizes if sizes[0] else _sizes(original.spec):
        assert size is not None
        for rows in [new.spec.fixed_batch] if new.spec.fixed_batch else [1, 3]:
            error = 0.0
            for batch in _pictures(new.spec, rows, size):
                expected = np.concatenate([original.run(batch[i : i + 1]) for i in range(rows)])
                error = _larger(error, _difference(new.run(batch), expected, new.spec))
            runs.append(f"batch {rows}, {size[0]} x {size[1]}, against the original: {error:.1e}")
            worst = _larger(worst, error)
    return worst, runs


def other_sizes(original: OnnxEngine, new: OnnxEngine, runs: list[str]) -> list[str]:
    """Sizes that the original did not take: rows of a batch equal rows alone, and the centre equals the original's."""
    size = original.spec.fixed_tile
    if size is None or new.spec.fixed_tile:
        return []
    multiple = new.spec.multiple or 1
    notes = []
    for extra in (1, 2):
        margin = extra * round_up(16, multiple)
        large = (size[0] + 2 * margin, size[1] + 2 * extra * margin)
        batch = next(_pictures(new.spec, new.spec.fixed_batch or 3, large))
        result = new.run(batch)
        single = np.concatenate([new.run(row[None]) for row in batch])
        error = _difference(result, single, new.spec)
        runs.append(f"batch {len(batch)}, {large[0]} x {large[1]}, against rows alone: {error:.1e}")
        if not error <= tolerance(new):
            raise ModelError(f"at {large[0]} x {large[1]} a row depends on the others of its batch, by {error:.1e}")
        scale, left = new.spec.scale or 1, extra * margin
        window = batch[:, :, margin : margin + size[0], left : left + size[1]]
        inner = result[:, :, margin * scale : (margin + size[0]) * scale, left * scale : (left + size[1]) * scale]
        y, x = (slice(side * scale * 7 // 16, side * scale * 9 // 16 or 1) for side in size)
        expected = original.run(window)[:, :, y, x]
        centre = _difference(inner[:, :, y, x], expected, new.spec)
        if not centre <= _CENTRE:
            notes.append(
                f"at {large[0]} x {large[1]} the centre differs from the original's by {centre:.1e}: the model sees "
                "further than its fixed size, or its size is still in the graph; look at results before you use it"
            )
    return notes


def _pictures(spec: ModelSpec, rows: int, size: Size) -> Iterator[np.ndarray]:
    """A batch of noise and one of smooth pictures, in the model's range of values."""
    rng = np.random.default_rng(0)
    noise = rng.random((rows, spec.channels, *size), np.float32)
    y, x = (np.linspace(0, 1, side, dtype=np.float32) for side in size)
    waves = np.sin(rng.uniform(1, 9, (rows, spec.channels, 1, 1)) * (y[:, None] + x)).astype(np.float32)
    for picture in (noise, waves / 2 + 0.5):
        yield to_range(picture.astype(np.float32), spec.value_range)


def _sizes(spec: ModelSpec) -> list[Size]:
    multiple = spec.multiple or 1
    side = round_up(64, multiple)
    return [(side, side), (side + multiple, side + 3 * multiple)]


def _difference(got: np.ndarray, expected: np.ndarray, spec: ModelSpec) -> float:
    if got.shape != expected.shape:
        return float("inf")
    span = max(spec.value_range[1] - spec.value_range[0], float(np.abs(expected).max()))
    return float(np.abs(got - expected).max() / span)


def _larger(one: float, other: float) -> float:
    """The larger of two; a value that is no number counts as the largest of all."""
    return max(one, other) if other == other else float("inf")
