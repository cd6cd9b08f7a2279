"""What goes into the pipeline and what comes out: jobs with their sources and sinks, outcomes, figures."""

from collections.abc import Callable
from dataclasses import dataclass

from sr_tile.errors import SrTileError
from sr_tile.images import ImageInfo
from sr_tile.images.rows import Sink, Source
from sr_tile.pipeline.clock import StageReport
from sr_tile.tiling.grid import TileGrid


@dataclass(frozen=True)
class ImageJob:
    """One image to do.

    Attributes:
        name: what messages call it.
        open_source: starts reading; it may be called again when the image has to start afresh.
        open_sink: starts writing an image of the given kind.
        strip: says, between the two, which rows of tiles to do, where that is not all; the source then begins with the
            first row of pixels that these read, and the sink gets what `TileBlender` says. See `tiling/strips`.
        on_grid: told the tiles that will be done, between the two; again where the image starts afresh with smaller ones.
    """

    name: str
    open_source: Callable[[], Source]
    open_sink: Callable[[ImageInfo], Sink]
    strip: Callable[[TileGrid], range] | None = None
    on_grid: Callable[[TileGrid], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: done, or failed with `error`; seconds from the first read to the end."""

    job: ImageJob
    index: int
    error: SrTileError | None
    pixels: int = 0
    sink: Sink | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Stats:
    """Figures of all runs of a pipeline.

    Attributes:
        stages: one report a stage, in the order of the pipeline.
        bottleneck: the stage whose workers had the least time to spare.
        engine_idle: share of the time from the first call to the end of the last in which an engine's thread had no call
            to make; with several threads their average.
        seconds: in which there was a run.
        images: finished images.
        megapixels: of the input.
        redundancy: pixels computed over pixels of the images.
        tile: (height, width) of the largest tile that was run.
        batch: rows a call.
        redone: tiles that overflowed in float16 and were done again in float32.
        precision: of the engine, see `Engine.precision`.
        why: see `Engine.why`.
        exact_images: of the finished images, those that were done in float32.
    """

    stages: tuple[StageReport, ...]
    bottleneck: str
    engine_idle: float
    seconds: float
    images: int
    megapixels: float
    redundancy: float
    tile: tuple[int, int]
    batch: int
    redone: int = 0
    precision: str = "fp32"
    why: str = ""
    exact_images: int = 0
