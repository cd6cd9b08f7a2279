"""Time and memory of single calls: models x precisions x devices x tiles x batches, measured in turn."""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from sr_tile.benchmark.arithmetic import MatrixRate, count_macs, or_none
from sr_tile.engines.base import Engine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, OutOfMemoryError
from sr_tile.models.receptive_field import natural_like
from sr_tile.planner import Settings
from sr_tile.system import memory
from sr_tile.tiling.blending import to_range

DIFFERENT_TILES = 4  # rows of a batch repeat them, so that what one row alone gives is known for every row
PHOTOGRAPH = 3000 * 4000  # pixels, for which `enhance` is asked what it would choose
SAMPLING = 0.003  # seconds between two looks at the memory
Progress = Callable[[int, int, str], None]


@dataclass
class Subject:
    """A model on a device.

    Attributes:
        name: of the model.
        precision: fp32, fp16 or int8.
        engine: runs it.
        path: its file; None where there is only an engine.
        chosen: (height, width) and batch that `enhance` would choose by itself.
    """

    name: str
    precision: str
    engine: Engine
    path: Path | None = None
    chosen: tuple[tuple[int, int], int] | None = None

    @property
    def number_type(self) -> type:
        """In which the device multiplies: float16 for fp16 on a GPU, else float32."""
        half = self.precision == "fp16" and self.engine.device.startswith(("cuda", "tensorrt", "directml"))
        return np.float16 if half else np.float32


@dataclass
class Cell:
    """One shape of batch on one subject, and what was measured of it.

    Attributes:
        subject: the model on its device.
        tile: (height, width) in pixels.
        batch: rows a call.
        overlap: pixels two neighbouring tiles share at this size, by default; they are computed twice.
        macs: multiplications of one call, None where they cannot be counted.
        seconds: of each call.
        peak: the most bytes in use during a call: of this process, or on the GPU by all processes.
        difference: largest difference from the same tile alone, in the model's range of values.
        failure: why there are no figures.
    """

    subject: Subject
    tile: tuple[int, int]
    batch: int
    overlap: int = 0
    macs: int | None = None
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    difference: float = 0.0
    failure: str | None = None

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return statistics.median(self.seconds)

    @property
    def tiles_per_second(self) -> float:
        """Rows of batches per second."""
        return self.batch / self.median

    @property
    def computed_rate(self) -> float:
        """Megapixels of tiles per second."""
        return self.tiles_per_second * self.tile[0] * self.tile[1] / 1e6

    @property
    def image_rate(self) -> float:
        """Megapixels of a large image per second: what tiles share counts once."""
        height, width = (max(1, side - self.overlap) for side in self.tile)
        return self.tiles_per_second * height * width / 1e6

    @property
    def is_chosen(self) -> bool:
        """Whether `enhance` would take this shape by itself."""
        return self.subject.chosen == (self.tile, self.batch)


@dataclass
class Measurement:
    """All cells, and the matrix rate of each (device, number type) in operations per second."""

    cells: list[Cell] = field(default_factory=list)
    limits: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def done(self) -> list[Cell]:
        """The cells that have figures."""
        return [cell for cell in self.cells if cell.seconds]


def open_subject(path: Path, device: str) -> Subject:
    """A model file on a device, with what `enhance` would choose for it."""
    enhancer = Enhancer(path, device=device, expected_pixels=PHOTOGRAPH)
    plan, engine = enhancer.plan, enhancer.engine
    half = engine.number_type == np.float16
    precision = str(engine.spec.details.get("precision") or ("fp16" if half else "fp32"))
    return Subject(engine.spec.name, precision, engine, path, (plan.tile, plan.batch))


def lay_out(subject: Subject, tiles: Sequence[int], batches: Sequence[int]) -> list[Cell]:
    """The cells of one subject: each tile with each batch, batch 1 always, and what `enhance` would choose.

    Raises:
        ArgumentError: the model cannot run one of the tiles.
    """
    spec = subject.engine.spec
    multiple = spec.multiple or 1
    shapes = {(side, side): set(batches) | {1} for side in tiles}
    if spec.fixed_tile:
        shapes = {spec.fixed_tile: set(batches) | {1}}
    for height, _ in shapes:
        if height % multiple and not spec.fixed_tile:
            raise ArgumentError(f"tile size {height} is no multiple of {multiple}, which model {spec.name} needs")
    if subject.chosen:
        shapes.setdefault(subject.chosen[0], {1}).add(subject.chosen[1])
    cells = []
    for tile, sizes in shapes.items():
        overlap = 0 if spec.fixed_tile else default_overlap(subject.engine, tile)
        for batch in [spec.fixed_batch] if spec.fixed_batch else sorted(sizes):
            cells.append(Cell(subject, tile, batch, overlap))
    return cells


def default_overlap(engine: Engine, tile: tuple[int, int]) -> int:
    """What `enhance` lets two tiles of this size share."""
    return Enhancer(engine, settings=Settings(tile=min(tile), batch=1)).plan.overlap


def measure(cells: list[Cell], repeat: int, progress: Progress = lambda done, total, text: None) -> Measurement:
    """Run every cell once for its memory and its answer, then `repeat` rounds over all of them for their time.

    Cells take turns, so that what else the machine does meets all of them alike. Ctrl-C ends it with what there is.

    Args:
        cells: of one or more subjects, those of a subject together; they are filled in.
        repeat: rounds.
        progress: called with (steps done, all steps, what comes next in words).
    """
    result = Measurement(cells)
    steps = itertools.count()

    def step(text: str) -> None:
        progress(next(steps), len(cells) * (repeat + 1), text)

    try:
        for subject in _subjects(cells):
            _inspect([cell for cell in cells if cell.subject is subject], step)
            subject.engine.close()  # the next one's memory is counted without it
        for subject in _subjects(cells):
            subject.engine.rebuild()
        rates = _matrix_rates(cells)
        for key in rates:
            result.limits[key] = []
        for number in range(repeat):
            for key, rate in rates.items():
                result.limits[key].append(rate.measure())
            for cell in cells:
                step(f"round {number + 1} of {repeat}: {_words(cell)}")
                if not cell.failure:
                    batch = _batch(cell)
                    start = time.perf_counter()
                    cell.subject.engine.run(batch)
                    cell.seconds.append(time.perf_counter() - start)
    except KeyboardInterrupt:
        result.interrupted = True
    return result


def _subjects(cells: list[Cell]) -> list[Subject]:
    return list({id(cell.subject): cell.subject for cell in cells}.values())


def _words(cell: Cell) -> str:
    height, width = cell.tile
    return (
        f"{cell.subject.name} {cell.subject.precision} {cell.subject.engine.device}, {cell.batch} x {height} x {width}"
    )


def _batch(cell: Cell) -> np.ndarray:
    """Pictures in the model's range of values, (batch, channels, height, width)."""
    spec = cell.subject.engine.spec
    tiles = to_range(natural_like(DIFFERENT_TILES, spec.channels, *cell.tile), spec.value_range)
    return tiles[np.arange(cell.batch) % DIFFERENT_TILES]


def _inspect(cells: list[Cell], step: Callable[[str], None]) -> None:
    """Memory, arithmetic and answers of one subject's cells, on a session that held nothing before each."""
    engine, bytes_per_pixel = cells[0].subject.engine, 0.0
    for cell in cells:
        step(f"memory: {_words(cell)}")
        pixels = cell.batch * cell.tile[0] * cell.tile[1]
        engine.rebuild()
        before = engine.memory_used()
        if bytes_per_pixel * pixels > engine.memory_free():
            cell.failure = f"needs about {memory.format_size(bytes_per_pixel * pixels)}, more than is free"
            continue
        batch = _batch(cell)
        try:
            with _watching(engine) as peak:
                together = engine.run(batch)
            cell.peak = max(peak)
            bytes_per_pixel = (cell.peak - before) / pixels
            for row in range(min(cell.batch, DIFFERENT_TILES)):
                alone = engine.run(batch[row : row + 1])
                gap = np.abs(together[row::DIFFERENT_TILES] - alone)
                cell.difference = max(cell.difference, float(gap.max()))
        except OutOfMemoryError:
            cell.failure = "out of memory"
    _count(cells)  # last, for its sessions take memory too


def _count(cells: list[Cell]) -> None:
    """The multiplications of each cell, where its model is a file."""
    path, channels = cells[0].subject.path, cells[0].subject.engine.spec.channels
    if path is None:
        return
    counted: dict[tuple[int, int], int | None] = {}
    for cell in cells:
        if cell.tile not in counted:
            counted[cell.tile] = or_none(partial(count_macs, path, channels, cell.tile))
        one = counted[cell.tile]
        cell.macs = one and one * cell.batch


@contextmanager
def _watching(engine: Engine) -> Iterator[list[int]]:
    """The memory in use, looked at again and again while the block runs."""
    seen, stopped = [engine.memory_used()], threading.Event()

    def watch() -> None:
        while not stopped.wait(SAMPLING):
            seen.append(engine.memory_used())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join()
        seen.append(engine.memory_used())


def _matrix_rates(cells: list[Cell]) -> dict[tuple[str, str], MatrixRate]:
    """The limit of each device and number type that has cells whose arithmetic is known."""
    wanted = {limit_key(cell.subject): cell.subject for cell in cells if cell.macs and not cell.failure}
    made = {
        key: or_none(partial(MatrixRate, subject.engine.device, subject.number_type)) for key, subject in wanted.items()
    }
    return {key: rate for key, rate in made.items() if rate}


def limit_key(subject: Subject) -> tuple[str, str]:
    """Device and number type, by which `Measurement.limits` is kept."""
    return subject.engine.device, np.dtype(subject.number_type).name
