"""Measure what calls cost, a few shapes from small to large, and remember it on disk."""

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sr_tile.engines.base import Engine, as_most_pictures
from sr_tile.errors import DeviceError, OutOfMemoryError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner.costs import Costs, Point
from sr_tile.system.cache import cache_folder, measured_file, recall, remember
from sr_tile.system.cpu import processor_kind
from sr_tile.tiling.grid import round_up

log = logging.getLogger("sr_tile")

Shape = tuple[int, int, int]  # rows, height, width

TIMED_CALLS = 2  # a shape, after one that meets cold memory and builds plans
SHAPES = {
    "cpu": ((1, 128), (1, 256), (4, 256), (1, 512), (1, 768)),
    "gpu": ((1, 128), (1, 256), (4, 256), (1, 512), (1, 1024), (4, 1024)),
}
WATCH_SECONDS = 0.01
FORMAT = 2  # of the files in the cache; 1 billed what the first call takes once to its pixels


def shapes_to_measure(engine: Engine, largest: tuple[int, int]) -> list[Shape]:
    """Shapes from small to large, in multiples that the model takes.

    Args:
        engine: a fixed size of its model leaves that one.
        largest: (height, width) of the largest tile that may be run.
    """
    spec = engine.spec
    if spec.fixed_tile:
        return [(spec.fixed_batch or 1, *spec.fixed_tile)]
    multiple = spec.multiple or 1
    shapes: dict[Shape, None] = {}
    for rows, side in SHAPES["cpu" if engine.uses_host_memory else "gpu"]:
        height, width = (min(round_up(side, multiple), most) for most in largest)
        rows = spec.fixed_batch or max(1, round(rows * side * side / (height * width)))
        shapes[rows, height, width] = None
    return list(shapes)


def pixels_to_measure(shapes: Sequence[Shape]) -> int:
    """Pixels that measuring runs through the network."""
    return (1 + TIMED_CALLS) * sum(rows * height * width for rows, height, width in shapes)


def measure(
    engine: Engine, shapes: Sequence[Shape], budget: float, *, remeasure: bool = False, folder: Path | None = None
) -> Costs | None:
    """What is remembered of `shapes`, and the rest of them measured now; a cache that fails is no error.

    Args:
        engine: its session is rebuilt where something is measured.
        shapes: from small to large.
        budget: bytes that a call may take: shapes that need more, by what those before took, are left out.
        remeasure: measure all of them again.
        folder: of the cache; None for the user's.

    Returns:
        None where there is no room for even the first shape.
    """
    path = _path(engine, folder)
    known = {} if remeasure else _known(path)
    new: list[Shape] = []
    found: list[Point] = []
    before = 0
    for shape in shapes:
        # On a device, the first point holds what is taken once; an attempt that fails costs nothing there.
        if len(found) > (not engine.uses_host_memory) and Costs(found).call_bytes(math.prod(shape)) > budget:
            break
        if shape not in known:
            if not new:
                engine.rebuild()
                before = engine.memory_used()
            try:
                known[shape] = _point(engine, shape, before)
            except OutOfMemoryError:
                engine.rebuild()
                break
            new.append(shape)
        found.append(known[shape])
    if new:
        remember(path, json.dumps({"points": list(known.values())}))
        if not engine.uses_host_memory:
            engine.rebuild()  # the arena holds what all shapes took
    fitting = [point for point in found if point.size <= budget]
    return Costs(fitting or found[:1]) if found else None


def remembered(engine: Engine, shapes: Sequence[Shape], folder: Path | None = None) -> Costs | None:
    """What the cache knows of `shapes`, without measuring anything; None where it knows none of them."""
    known = _known(_path(engine, folder))
    found = [known[shape] for shape in shapes if shape in known]
    return Costs(found) if found else None


def values_per_pixel(spec: ModelSpec) -> int:
    """Numbers that one input pixel is worth, going in and coming out."""
    return spec.channels * (1 + (spec.scale or 1) ** 2)


def _batch(engine: Engine, shape: Shape) -> np.ndarray:
    rows, height, width = shape
    return as_most_pictures(engine, np.full((rows, engine.spec.channels, height, width), 0.5, np.float32))


def _point(engine: Engine, shape: Shape, before: int) -> Point:
    """Seconds and bytes of a shape, in calls in a row: a runtime keeps what it prepared for the last shape only.

    The better of each is taken, for other programs make calls slower and memory scarcer, never the reverse.
    """
    batch = _batch(engine, shape)
    engine.run(batch)
    seconds, size = math.inf, math.inf
    for _ in range(TIMED_CALLS):
        start = time.perf_counter()
        peak = _peak(engine, engine.run, batch)
        seconds = min(seconds, time.perf_counter() - start)
        size = min(size, peak - before)
    if engine.bound is not None:  # a picture that bears no fewer bits takes this instead, in tiles of the same shape
        size = max(size, _peak(engine, engine.run_exact, batch) - before)
    return Point(*shape, seconds, max(size, 4.0 * math.prod(shape) * values_per_pixel(engine.spec)))


def _peak(engine: Engine, call: Callable[[np.ndarray], object], batch_nchw: np.ndarray) -> int:
    """The most bytes in use on the device during and after a call; runtimes may give back what they took."""
    most, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(WATCH_SECONDS):
            with contextlib.suppress(DeviceError):  # the call itself will say so
                most = max(most, engine.memory_used())

    watcher = threading.Thread(target=watch, name="watch memory", daemon=True)
    watcher.start()
    try:
        output = call(batch_nchw)
        after = engine.memory_used()
        del output
    finally:
        stop.set()
        watcher.join()
    return max(most, after)


def _path(engine: Engine, folder: Path | None) -> Path:
    return measured_file(
        folder or cache_folder("costs"), FORMAT, engine.identity, processor_kind() if engine.uses_host_memory else ""
    )


def _known(path: Path) -> dict[Shape, Point]:
    """What the cache knows; nothing where any of it cannot be."""
    return recall(path, _points) or {}


def _points(text: str) -> dict[Shape, Point]:
    known: dict[Shape, Point] = {}
    for rows, height, width, seconds, size in json.loads(text)["points"]:
        shape = (int(rows), int(height), int(width))
        if not (min(shape) >= 1 and 1e-9 < seconds < 1e9 and 0 < size < 1e18 and math.prod(shape) < 2**40):
            raise ValueError("no time or memory that a call can take")
        known[shape] = Point(*shape, float(seconds), float(size))
    return known
