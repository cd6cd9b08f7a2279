"""ONNX Runtime or OpenVINO: which is faster for this model on this machine, measured once and remembered.

Neither is faster in general. On one core with AVX-512, SCUNet is 1.2 x as fast with OpenVINO and NAFNet 0.9 x.
"""

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sr_tile.engines import openvino
from sr_tile.engines.base import Engine
from sr_tile.errors import SrTileError
from sr_tile.system.atomic_file import atomic_write
from sr_tile.system.cache import cache_folder
from sr_tile.system.cpu import allowed_threads, processor_name

log = logging.getLogger("sr_tile")

ROUNDS = 3
LEAST_GAIN = 1.05  # less is within the noise of such a measurement
SAME = 1e-4  # largest difference of outputs, relative to their largest value
LEAST_TILES, LEAST_SECONDS = 16, 60.0  # a measurement takes as long as some ten tiles and a compilation: a few seconds
DEFAULT_SIDE = 256


@dataclass(frozen=True)
class Choice:
    """What came of a comparison.

    Attributes:
        device: the one to use.
        gain: time of the first over time of the second; 0 where the second failed.
        difference: largest difference of their outputs, relative to the largest value.
    """

    device: str
    gain: float
    difference: float


def key_of(engine: Engine) -> str:
    """Tells model, versions, processor and threads from others."""
    facts = [engine.identity, str(openvino.version()), processor_name(), str(allowed_threads())]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def recall(key: str, folder: Path | None = None) -> Choice | None:
    """The choice that was remembered; None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        found = json.loads(_file(key, folder).read_text())
        return Choice(str(found["device"]), float(found["gain"]), float(found["difference"]))
    return None


def remember(key: str, choice: Choice, folder: Path | None = None) -> None:
    """Keep the choice for later runs; a folder that cannot be written is no error."""
    path = _file(key, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(asdict(choice)))
    except OSError as error:
        log.debug("the choice of a runtime is not remembered: %s", error)


def worth_measuring(
    engine: Engine, expected_pixels: int | None, clock: Callable[[], float] = time.perf_counter
) -> bool:
    """True where the work takes so much longer than a measurement that even a small gain pays for it.

    A job that looks large has one tile of it timed.

    Args:
        engine: the one that would do it otherwise.
        expected_pixels: pixels of all images to come; None where that is not known.
        clock: seconds.
    """
    batch = _batch(engine)
    tiles = (expected_pixels or 0) * engine.spec.channels / batch[0].size
    if tiles < LEAST_TILES:
        return False
    start = clock()
    try:
        engine.run(batch)  # the first call is a slow one, which is no harm: the limit is a round number
    except SrTileError:  # such as no room for it: the planner knows what to do then
        return False
    return (clock() - start) / len(batch) * tiles > LEAST_SECONDS


def compare(first: Engine, open_second: Callable[[], Engine], clock: Callable[[], float] = time.perf_counter) -> Choice:
    """Time two engines on one tile in turn; the second must be clearly faster, and say the same.

    Args:
        first: open, and stays so.
        open_second: opens the other, which is closed again; where it fails in whatever way, the first is chosen.
        clock: seconds.
    """
    batch = _batch(first)
    try:
        with contextlib.closing(open_second()) as second:
            results = [engine.run(batch) for engine in (first, second)]  # compiles, and fills caches
            times: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for engine, spent in zip((first, second), times, strict=True):
                    start = clock()
                    engine.run(batch)
                    spent.append(clock() - start)
            chosen = second.device
    except SrTileError as error:
        log.debug("%s", error)
        return Choice(first.device, 0.0, 0.0)
    gain = min(times[0]) / max(min(times[1]), 1e-9)
    largest = max(1.0, float(np.abs(results[0]).max()))
    difference = float(np.abs(results[0] - results[1]).max()) / largest
    # Where either is no number, nothing is shown to be the same.
    wins = gain >= LEAST_GAIN and difference <= SAME
    return Choice(chosen if wins else first.device, gain, difference)


def _batch(engine: Engine) -> np.ndarray:
    """One tile of the recommended size, the same each time."""
    spec = engine.spec
    side = spec.tile or DEFAULT_SIDE
    multiple = spec.multiple or 1
    height, width = spec.fixed_tile or (-(-side // multiple) * multiple,) * 2
    low, high = spec.value_range
    pixels = np.random.default_rng(0).random((spec.fixed_batch or 1, spec.channels, height, width), np.float32)
    return pixels * np.float32(high - low) + np.float32(low)


def _file(key: str, folder: Path | None) -> Path:
    folder = folder or cache_folder("choices")
    return folder / f"{key}.json"
