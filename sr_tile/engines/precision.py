"""Fewer bits than float32, as far as pictures bear them: what is lost, and an engine that gives each picture what it bears.

What decides is measured agreement with float32, never the time of a network: a clock would decide differently from run to
run, and the same command gives the same bytes every time. Precisions are tried in a fixed order, the one with the most
arithmetic first, but for those in which the processor is no faster at all.
"""

import json
import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sr_tile.engines.base import BaseEngine, Engine
from sr_tile.errors import ArgumentError, OutOfMemoryError, SrTileError
from sr_tile.models.spec import ModelSpec
from sr_tile.models.synthetic_images import scenes
from sr_tile.system.cache import cache_folder, measured_file, recall, remember
from sr_tile.system.cpu import allowed_threads, processor_kind
from sr_tile.tiling.blending import from_range, to_range
from sr_tile.tiling.grid import round_up
from sr_tile.types import Array, Float32

log = logging.getLogger("sr_tile")

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
LEAST_PSNR = 55.0  # dB between fewer bits and float32, where nothing else is asked for
LEAST_WITHIN = 0.999  # share of values at most one 8-bit step from float32
LEAST_PIXELS = 512 * 512  # of a picture: for less, neither a second runtime nor a comparison pays
SAMPLE = 128  # side of what is compared
SAMPLE_TOP = 64  # rows above it, which are sky more often
_STEPS = 255
_FORMAT = 1  # of what the cache keeps; raised where `openvino_parts` cuts in another way


@dataclass(frozen=True)
class Agreement:
    """How far one engine's pictures are from another's.

    Attributes:
        psnr: in dB over all values, clipped to the range; infinite where they are equal.
        within: share of values that are at most one step apart once both are rounded to 8 bits.
    """

    psnr: float
    within: float

    @classmethod
    def from_json(cls, text: str) -> "Agreement":
        """What was stored as a mapping."""
        facts = json.loads(text)
        return cls(float(facts["psnr"]), float(facts["within"]))

    def keeps(self, least_psnr: float) -> bool:
        """Whether nobody will see the difference; what is no number keeps nothing."""
        return self.psnr >= least_psnr and self.within >= LEAST_WITHIN

    def __str__(self) -> str:
        return f"{self.psnr:.1f} dB from float32, {self.within:.3%} of values within one step"


def agreement(fewer: Iterable[np.ndarray], exact: Iterable[np.ndarray], value_range: tuple[float, float]) -> Agreement:
    """Compare outputs, pair by pair; the worst of each figure counts."""
    psnr, within = math.inf, 1.0
    for one, two in zip(fewer, exact, strict=True):
        if not (np.isfinite(one).all() and np.isfinite(two).all()):
            return Agreement(-math.inf, 0.0)
        a, b = (from_range(values, value_range).clip(0, 1) for values in (one, two))
        mse = float(np.mean((a - b) ** 2, dtype=np.float64))
        psnr = min(psnr, -10 * math.log10(mse) if mse else math.inf)
        within = min(within, float(np.mean(np.abs(np.rint(a * _STEPS) - np.rint(b * _STEPS)) <= 1)))
    return Agreement(psnr, within)


def pieces_of(spec: ModelSpec, rows_hwc: np.ndarray) -> list[np.ndarray]:
    """Of the first rows of a picture, what shows whether it bears fewer bits: left, in the middle and right.

    They lie where they do for any size of tiles, so that this does not decide.

    Args:
        spec: of the model, whose multiple they keep.
        rows_hwc: as many as a tile has, over the whole width.
    """
    multiple, side = spec.multiple or 1, _side(spec)
    height, width = (min(side, length // multiple * multiple) for length in rows_hwc.shape[:2])
    y, right = min(SAMPLE_TOP, rows_hwc.shape[0] - height), rows_hwc.shape[1] - width
    return [rows_hwc[y : y + height, x : x + width] for x in sorted({0, right // 2, right})]


def agrees(engine: Engine, samples_chw: Sequence[np.ndarray]) -> bool:
    """Whether an engine's fewer bits keep its bound on pieces of a picture.

    Args:
        engine: one with a `bound`.
        samples_chw: (channels, height, width), float32, in the model's range of values.
    """
    spec = engine.spec
    samples = [np.ascontiguousarray(sample)[None] for sample in samples_chw]
    if any(min(sample.shape[2:]) < spec.smallest for sample in samples):
        return False
    try:
        fewer = [engine.run(sample) for sample in samples]
        exact = [found for sample in samples if (found := engine.run_exact(sample)) is not None]
    except SrTileError:  # what runs the picture will say so
        return False
    if engine.bound is None:  # `run` has just found that nothing but float32 is left
        return True
    return agreement(fewer, exact, spec.value_range).keeps(engine.bound)


def _side(spec: ModelSpec) -> int:
    multiple = spec.multiple or 1
    return round_up(max(SAMPLE, spec.smallest), multiple)


def built_in_pictures(spec: ModelSpec) -> list[np.ndarray]:
    """One of each kind of rendered scene as the model's input; with noise where it restores, as its inputs have.

    Returns:
        Each (1, channels, height, width), float32, in the model's range of values.
    """
    made = []
    for index, picture in enumerate(scenes(5, _side(spec), seed=2)):
        planes = picture.transpose(2, 0, 1)
        if spec.scale in (None, 1):
            planes = planes + 0.02 * index * np.random.default_rng(index).standard_normal(planes.shape, np.float32)
        if spec.channels == 1:
            planes = planes.mean(axis=0, keepdims=True)
        made.append(np.ascontiguousarray(to_range(planes.clip(0, 1)[None], spec.value_range), np.float32))
    return made


@dataclass(frozen=True)
class Candidate:
    """A precision that might do.

    Attributes:
        precision: its name.
        open: opens the engine, which may take seconds; raises a SrTileError where the device cannot.
        parallel_rows, width_step: of that engine.
    """

    precision: str
    open: Callable[[], Engine]
    parallel_rows: int = 1
    width_step: int = 1


class AdaptiveEngine(BaseEngine):
    """Float32 by one engine, fewer bits by another: `run` takes these, `run_exact` takes float32.

    Which precision `run` takes is decided when it is first asked for: the first candidate that keeps the bound on the
    built-in pictures. What they showed is kept in the user's cache, by model, runtimes and processor. Whether a picture
    bears it as well is for the caller to find out by `agrees`.

    Args:
        exact: in float32.
        candidates: those with the most arithmetic first.
        bound: dB from float32 that `run` keeps at least.

    Raises:
        ArgumentError: the bound is no number of dB above 0.
    """

    def __init__(self, exact: Engine, candidates: Sequence[Candidate], bound: float = LEAST_PSNR) -> None:
        if not bound > 0:
            raise ArgumentError(f"agreement {bound} is no number of dB above 0; 55 leaves nothing to be seen")
        self._exact, self._candidates, self._least = exact, candidates, bound
        self.bound: float | None = bound  # None once nothing but float32 is left
        self.spec, self.device = exact.spec, exact.device
        self.parallel_rows = max([exact.parallel_rows, *(candidate.parallel_rows for candidate in candidates)])
        self.width_step = max([exact.width_step, *(candidate.width_step for candidate in candidates)])
        self._fast: Engine | None = None
        self._lock = threading.Lock()
        self._decided = False
        self.precision, self.why = "fp32", "no image asked for less yet"

    @property
    def identity(self) -> str:
        """See `Engine.identity`: what is measured holds for `run`."""
        tried = ",".join(candidate.precision for candidate in self._candidates)
        return f"{self._exact.identity}-auto-{tried}-{self._least:g}"

    def run(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"]:
        """See `Engine.run`."""
        return self._engine().run(batch_nchw)

    def run_exact(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"]:
        """See `Engine.run_exact`."""
        return self._exact.run(batch_nchw)

    def rebuild(self) -> None:
        """See `Engine.rebuild`."""
        for engine in self._open():
            engine.rebuild()

    def memory_free(self) -> int:
        """See `Engine.memory_free`."""
        return self._exact.memory_free()

    def memory_used(self) -> int:
        """See `Engine.memory_used`."""
        return self._exact.memory_used()

    def cancel(self) -> None:
        """See `Engine.cancel`."""
        for engine in self._open():
            engine.cancel()

    def close(self) -> None:
        """See `Engine.close`."""
        for engine in self._open():
            engine.close()

    def _open(self) -> list[Engine]:
        return [engine for engine in (self._exact, self._fast) if engine]

    def _engine(self) -> Engine:
        """What `run` runs on."""
        with self._lock:
            if not self._decided:
                self._fast, self.why = self._decide()
                self.precision = self._fast.precision if self._fast else "fp32"
                self.bound = self._least if self._fast else None
                self._decided = True
                log.info("precision %s: %s", self.precision, self.why)
        return self._fast or self._exact

    def _decide(self) -> tuple[Engine | None, str]:
        """The first candidate that does, or None; and why."""
        refused = []
        for candidate in self._candidates:
            try:
                engine = candidate.open()
                found = self._agreement(engine)
            except OutOfMemoryError:
                raise
            except SrTileError as error:
                refused.append(f"{candidate.precision}: {error}")
                continue
            if found.keeps(self._least):
                return engine, f"by {engine.device}, {found} on the built-in pictures"
            engine.close()
            refused.append(f"{candidate.precision} is {found} on the built-in pictures")
        return None, "; ".join(refused) or "this device has nothing else"

    def _agreement(self, engine: Engine) -> Agreement:
        """What the built-in pictures show, or showed."""
        facts = (_FORMAT, self._exact.identity, engine.identity, processor_kind(), allowed_threads())
        path = measured_file(cache_folder("precision"), *facts)
        if known := recall(path, Agreement.from_json):
            return known
        pictures = built_in_pictures(self.spec)
        fewer, exact = ([one.run(picture) for picture in pictures] for one in (engine, self._exact))
        found = agreement(fewer, exact, self.spec.value_range)
        remember(path, json.dumps(asdict(found)))
        return found
