"""From options to figures: open every model in every precision on every device, measure, close."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from sr_tile.benchmark.cells import Measurement, Progress, Subject, lay_out, measure, open_subject
from sr_tile.benchmark.seams import Seam, measure_seams
from sr_tile.errors import ArgumentError, GeometryError, OutOfMemoryError, PrecisionLossError
from sr_tile.export.find_model import find_model
from sr_tile.system.stopping import temporary_folder

log = logging.getLogger("sr_tile")

AS_IT_IS = "file"
PRECISIONS = (AS_IT_IS, "fp32", "fp16", "int8")
MOST_BATCH = 4096


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure.

    Attributes:
        models: paths, or names of bundled or pulled models.
        precisions: `file` (or `fp32`) takes the file as it is; `fp16` and `int8` are made of it for this run.
        devices: as for `enhance`.
        tiles: sides in pixels.
        batches: tiles a call; 1 is always measured.
        repeat: rounds.
        overlaps: of the comparison with the whole picture, in pixels; None leaves it out.
    """

    models: Sequence[str] = ("clean-x2",)
    precisions: Sequence[str] = (AS_IT_IS,)
    devices: Sequence[str] = ("auto",)
    tiles: Sequence[int] = (128, 256, 512)
    batches: Sequence[int] = (1, 2, 4, 8)
    repeat: int = 5
    overlaps: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise ArgumentError(f"precision {precision!r} is not known; choose from {', '.join(PRECISIONS)}")
        for name, values, most in (
            ("tile size", self.tiles, 2**15),
            ("batch size", self.batches, MOST_BATCH),
            ("repeat", (self.repeat,), 10**6),
        ):
            for value in values:
                if not 1 <= value <= most:
                    raise ArgumentError(f"{name} is {value}; it must be a whole number from 1 to {most}")

    def quicker(self) -> "BenchmarkOptions":
        """The two largest tiles, every second batch, at most three rounds."""
        return replace(self, tiles=self.tiles[-2:], batches=self.batches[::2], repeat=min(3, self.repeat))


def run(
    options: BenchmarkOptions, progress: Progress = lambda done, total, text: None
) -> tuple[Measurement, list[Seam]]:
    """Measure what the options say; Ctrl-C ends it with what there is.

    Raises:
        ModelLoadError: no such model.
        DeviceError: a device cannot be had.
        ArgumentError: a model cannot run one of the tiles.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        subjects: list[Subject] = []
        for model in options.models:
            source = find_model(model)
            for precision in options.precisions:
                path = _variant(source, precision, folder)
                for device in options.devices if path else ():
                    subjects.append(open_subject(path, device))  # type: ignore[arg-type]
                    stack.callback(subjects[-1].engine.close)
        cells = [cell for subject in subjects for cell in lay_out(subject, options.tiles, options.batches)]
        measurement = measure(cells, options.repeat, progress)
        seams: list[Seam] = []
        try:
            for subject in subjects if options.overlaps is not None and not measurement.interrupted else ():
                progress(0, 0, f"seams: {subject.name} {subject.precision} {subject.engine.device}")
                try:
                    seams += measure_seams(subject, max(options.tiles), options.overlaps or ())
                except (GeometryError, OutOfMemoryError) as error:  # the figures at hand are worth more than these
                    log.warning("seams are left out: %s", error)
        except KeyboardInterrupt:
            measurement.interrupted = True
    return measurement, seams


def _variant(source: Path, precision: str, folder: Path) -> Path | None:
    """The model file in a precision; None, and a warning, where it would lose too much."""
    if precision in (AS_IT_IS, "fp32"):
        return source
    from sr_tile.export.precision import convert

    target = folder / f"{source.stem}-{precision}.onnx"
    try:
        convert(source, target, precision)
    except PrecisionLossError as error:
        log.warning("%s is left out: %s", precision, error)
        return None
    return target
