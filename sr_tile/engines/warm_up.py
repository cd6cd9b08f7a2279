"""A run before the first image, so that this takes no longer than the others."""

from collections.abc import Sequence

import numpy as np

from sr_tile.engines.base import Engine, as_most_pictures
from sr_tile.engines.precision import agrees, built_in_pictures
from sr_tile.errors import ArgumentError


def warm_up(engine: Engine, kind: str, calls: Sequence[tuple[int, tuple[int, int]]]) -> None:
    """Run the engine at the real shapes, and at that of comparing precisions where it does so for each image.

    Args:
        engine: on its device.
        kind: `off`, `zeros` or `random`.
        calls: rows and (height, width) of each.

    Raises:
        ArgumentError: another kind.
    """
    if kind not in ("off", "zeros", "random"):
        raise ArgumentError(f"warm-up {kind!r} is not known; choose off, zeros or random")
    if kind == "off":
        return
    for rows, tile in calls:
        shape = (rows, engine.spec.channels, *tile)
        is_random = kind == "random"
        batch = np.random.default_rng(0).random(shape, np.float32) if is_random else np.zeros(shape, np.float32)
        engine.run(as_most_pictures(engine, batch))
    if engine.bound is not None:
        agrees(engine, list(built_in_pictures(engine.spec)[0]))
