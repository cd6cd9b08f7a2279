"""What the operators do, row by row: decode, network, encode. No Ray here, so that it can be tested without.

Rows are dicts of plain values, for they travel as Arrow tables; what has no such form is pickled.

    wanted   {index, source, target}                    which image
    decoded  wanted + {kind, info, pixels, ...}         kind is `pixels`, `file` (a giant, for one actor), `part` or an end
    report   {index, kind, error, size, mtime_ns, sha256, folder, first, end}    kind is `done`, `strip`, `giant`, `failed`
"""

import itertools
import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.distributed.storage import reading, writing
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageReadError, OutOfMemoryError, SrTileError
from sr_tile.images import ImageInfo, ImageReader, ImageWriter, WriteOptions, format_of, holds_sixteen_bits
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.images.rows import CroppingSink, Sink
from sr_tile.jobs.durable_file import GIANT_PIXELS
from sr_tile.jobs.job_folder import FileFingerprint, strips_name
from sr_tile.jobs.strip_store import StripFile, StripStore, whole_strips
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.plan_image import tile_grid_for
from sr_tile.planner import Plan, Settings
from sr_tile.tiling.channels import Alpha
from sr_tile.tiling.grid import TileGrid
from sr_tile.tiling.strips import Strip, edge, split

Row = dict[str, Any]

PART_BYTES = 96 * 2**20
"""Most bytes of decoded rows that one part of a giant image has: it is in memory as a whole, its result is not."""

_REPORT: Row = {"kind": "", "error": "", "size": -1, "mtime_ns": -1, "sha256": "", "folder": "", "first": 0, "end": 0}
_DECODED: Row = {"kind": "", "report": b"", "info": b"", "pixels": b"", "tiles": b"", "folder": ""}


@dataclass(frozen=True)
class EnhanceConfig:
    """All that an actor needs to do what any other does, with the same bytes.

    Attributes:
        model: as for `Enhancer`; every machine must have the file.
        scale: as for `Enhancer`; known once there is a plan.
        device: as for `Enhancer`.
        precision: as for `Enhancer`, but not `auto`: every machine does the same.
        settings: as for `Enhancer`.
        alpha: as for `Enhancer`.
        options: how results are encoded.
        plan: the tiles, the same for all actors; None before one of them has made it.
        split: giants are cut into parts, which go to several actors.
        strips: folder for the finished strips of giants, which every machine sees.
        giant_pixels: results with more pixels are giants.
    """

    model: str | None = None
    scale: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    settings: Settings = field(default_factory=Settings)
    alpha: Alpha = "bicubic"
    options: WriteOptions = field(default_factory=WriteOptions)
    plan: Plan | None = None
    split: bool = False
    strips: str = ""
    giant_pixels: int = GIANT_PIXELS

    def enhancer(self) -> Enhancer:
        """The engine of one actor."""
        enhancer = Enhancer(
            self.model,
            scale=self.scale,
            device=self.device,
            precision=self.precision,
            settings=self.settings,
            alpha=self.alpha,
        )
        if self.plan:
            enhancer.use_plan(self.plan)
        return enhancer

    def planned(self) -> "EnhanceConfig":
        """With the tiles and the device that this machine would choose, and the model's scale."""
        with self.enhancer() as enhancer:
            return replace(self, plan=self.plan or enhancer.plan, scale=enhancer.scale, device=enhancer.device)

    def grid(self, info: ImageInfo) -> TileGrid:
        """The tiles of one image."""
        assert self.plan
        assert self.scale
        return tile_grid_for(self.plan, info, self.scale, self.alpha)


def decode(row: Row, config: EnhanceConfig) -> Row:
    """Read an image; giants are left to `parts` or, as a file, to one actor. One that cannot be read ends here."""
    try:
        with reading(row["source"]) as path, ImageReader(path) as reader:
            facts, info = asdict(FileFingerprint.of(path)), reader.info
            assert config.scale
            if info.pixels * config.scale**2 > config.giant_pixels:
                kind = "giant" if config.split else "file"
                return {**row, **_DECODED, "kind": kind, "report": pickle.dumps({**_REPORT, "kind": kind, **facts})}
            pixels = reader.read_rows(info.height).tobytes()
            done = pickle.dumps({**_REPORT, "kind": "done", **facts})
            return {**row, **_DECODED, "kind": "pixels", "report": done, "info": pickle.dumps(info), "pixels": pixels}
    except SrTileError as error:
        return {**row, **_DECODED, **_failed(error)}


def parts(row: Row, config: EnhanceConfig, actors: int) -> Iterator[Row]:
    """Cut a giant image into parts for several actors, reading it once; those that are there are left out.

    Args:
        row: a wanted image; `recorded` says which strips the journal knows, as {folder: {first: end}}, pickled.
        config: with a plan.
        actors: parts are so small that each gets one, and so that they fit into memory.
    """
    names = {key: row[key] for key in ("index", "source", "target")}
    try:
        with reading(row["source"]) as path, ImageReader(path) as reader:
            facts, info, grid = FileFingerprint.of(path), reader.info, config.grid(reader.info)
            folder = Path(config.strips) / strips_name(Path(row["target"]), facts, grid)
            report = {**_REPORT, "kind": "strip", **asdict(facts), "folder": folder.name}
            recorded = pickle.loads(row["recorded"]).get(folder.name, {})
            there = whole_strips(folder, recorded)
            yield {**names, **_DECODED, "kind": "cut", "report": pickle.dumps({**report, "kind": "cut"})}
            fits = PART_BYTES // (grid.y.tile * info.width * info.channels * info.dtype.itemsize)
            most = max(1, min(fits, -(-len(grid.rows) // actors)))
            rows, top = reader.read_rows(1), 0
            for strip in missing_strips(grid, there, config.scale or 1, most):
                first, end = strip.reads
                _skip(reader, first)
                rows = rows[first - top :]  # nothing, where rows were skipped
                if end - first > len(rows):
                    rows = np.concatenate([rows, reader.read_rows(end - first - len(rows))])
                top = first
                values = {"info": pickle.dumps(info), "pixels": rows.tobytes(), "folder": str(folder)}
                values |= {"report": pickle.dumps(report), "tiles": pickle.dumps((strip.first, strip.stop))}
                yield {**names, **_DECODED, "kind": "part", **values}
    except SrTileError as error:
        yield {**names, **_DECODED, **_failed(error)}


def _skip(reader: ImageReader, first: int) -> None:
    """Read and drop the rows before `first`."""
    while (behind := first - (reader.info.height - reader.rows_left)) > 0:
        reader.read_rows(min(behind, 256))


def missing_strips(grid: TileGrid, there: dict[int, int], scale: int, most: int) -> Iterator[Strip]:
    """What the strips that are there, first row to end, leave of an image, in strips of at most `most` rows of tiles."""
    missing = [
        row
        for row in grid.rows
        if not any(
            first <= edge(grid, row) * scale and edge(grid, row + 1) * scale <= end for first, end in there.items()
        )
    ]
    # Rows of tiles that follow each other differ from their place in the list by the same number.
    for _, run in itertools.groupby(enumerate(missing), lambda item: item[1] - item[0]):
        rows = [row for _, row in run]
        yield from split(grid, range(rows[0], rows[-1] + 1), most)


class Network:
    """One engine, and what it makes of decoded rows."""

    def __init__(self, config: EnhanceConfig) -> None:
        self._recipe, self._enhancer = config, config.enhancer()

    def __call__(self, rows: list[Row]) -> Iterator[Row]:
        """Each row with its result in place of its pixels; tiles of several images share batches."""
        yield from self._pixels([row for row in rows if row["kind"] == "pixels"])
        for row in rows:
            if row["kind"] == "part":
                yield self._part(row)
            elif row["kind"] == "file":
                yield self._file(row)
            elif row["kind"] != "pixels":
                yield row

    def _pixels(self, rows: list[Row]) -> Iterator[Row]:
        """Images that are in memory as a whole, in the number type of their file."""
        jobs = [self._job(row) for row in rows]
        for outcome in self._enhancer.run(jobs):
            row = rows[outcome.index]
            if outcome.error:
                yield {**row, **_DECODED, **_failed(outcome.error)}
            else:
                assert isinstance(outcome.sink, ArraySink)
                yield {**row, "pixels": outcome.sink.pixels_hwc.tobytes()}

    @staticmethod
    def _job(row: Row) -> ImageJob:
        info: ImageInfo = pickle.loads(row["info"])
        pixels = np.frombuffer(row["pixels"], info.dtype).reshape(info.height, info.width, info.channels)
        dtype = stored_dtype(row["target"], info)
        return ImageJob(
            row["source"], lambda: ArraySource(pixels), lambda result: ArraySink(replace(result, dtype=dtype))
        )

    def _part(self, row: Row) -> Row:
        """A part of a giant, into a strip; its result is never in memory as a whole."""
        info: ImageInfo = pickle.loads(row["info"])
        expected, scale = self._recipe.grid(info), self._enhancer.scale
        strip = Strip(expected, *pickle.loads(row["tiles"]))
        pixels = np.frombuffer(row["pixels"], info.dtype).reshape(-1, info.width, info.channels)

        def tiles(grid: TileGrid) -> range:
            if grid != expected:
                raise OutOfMemoryError(
                    f"{row['source']}: one actor has no room for the tiles of the others; use a smaller --tile-size"
                )
            return strip.tiles

        def open_sink(result: ImageInfo) -> Sink:
            store = StripStore(Path(row["folder"]), result, stored_dtype(row["target"], info))
            return CroppingSink(_StripSink(store, strip.rows[0] * scale), strip.dropped * scale)

        (outcome,) = self._enhancer.run([ImageJob(row["source"], lambda: _PartSource(info, pixels), open_sink, tiles)])
        if outcome.error:
            return {**row, **_DECODED, **_failed(outcome.error)}
        report = {**pickle.loads(row["report"]), "first": strip.rows[0] * scale, "end": strip.rows[1] * scale}
        return {**row, **_DECODED, "kind": "strip", "report": pickle.dumps(report)}

    def _file(self, row: Row) -> Row:
        """A giant that is not split: a stream from file to file."""
        try:
            with reading(row["source"]) as source, writing(row["target"]) as target:
                self._enhancer.enhance_file(source, target, overwrite=True, options=self._recipe.options)
        except SrTileError as error:
            return {**row, **_failed(error)}
        report = {**pickle.loads(row["report"]), "kind": "done"}
        return {**row, "kind": "done", "report": pickle.dumps(report)}


class _PartSource:
    """Some rows of an image that has more."""

    def __init__(self, info: ImageInfo, pixels_hwc: np.ndarray) -> None:
        self.info, self._pixels = info, pixels_hwc

    def read_rows(self, count: int) -> np.ndarray:
        """See `Source.read_rows`."""
        rows, self._pixels = self._pixels[:count], self._pixels[count:]
        return rows

    def close(self) -> None:
        """Nothing is held."""


class _StripSink:
    """Rows into one strip, which appears when it is whole; doing it twice gives the same strip."""

    def __init__(self, store: StripStore, first: int) -> None:
        self._strip = StripFile(store, first)
        self.dtype = store.dtype

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """See `Sink.write_rows`."""
        self._strip.write(rows_hwc)

    def close(self) -> None:
        """See `Sink.close`."""
        self._strip.finish()

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._strip.abort()


def encode(row: Row, config: EnhanceConfig) -> Row:
    """Write what is in memory; the report of every row."""
    if row["kind"] == "pixels":
        try:
            info: ImageInfo = pickle.loads(row["info"])
            result = _enlarged(info, config)
            pixels = np.frombuffer(row["pixels"], stored_dtype(row["target"], info))
            with (
                writing(row["target"]) as path,
                ImageWriter(path, result, options=config.options, overwrite=True) as writer,
            ):
                writer.write_rows(pixels.reshape(result.height, result.width, result.channels))
        except SrTileError as error:
            row = {**row, **_failed(error)}
    return {"index": row["index"], **pickle.loads(row["report"])}


def join(row: Row, config: EnhanceConfig) -> Row:
    """Write a giant whose strips are all there, in order.

    Args:
        row: a wanted image, with `folder` and `strips`: the name of its folder, and {first: end}, pickled.
        config: with a plan.
    """
    report, strips = {**_REPORT, "index": row["index"]}, pickle.loads(row["strips"])
    try:
        with reading(row["source"]) as path, ImageReader(path) as reader:
            facts, result = FileFingerprint.of(path), _enlarged(reader.info, config)
        with (
            writing(row["target"]) as path,
            ImageWriter(path, result, options=config.options, overwrite=True) as writer,
        ):
            store = StripStore(Path(row["folder"]), result, writer.dtype)
            first = 0
            while first < result.height:
                if first not in strips:
                    raise ImageReadError(
                        f"{row['source']}: the part from row {first} of its result was lost; do it again"
                    )
                for rows in store.read(first, strips[first]):
                    writer.write_rows(rows)
                first = strips[first]
    except SrTileError as error:
        return {**report, "kind": "failed", "error": str(error)}
    return {**report, "kind": "done", **asdict(facts)}


def stored_dtype(target: str, info: ImageInfo) -> np.dtype:
    """The number type of a result: that of its source, where the format of the target holds it."""
    return info.dtype if holds_sixteen_bits(format_of(target)) else np.dtype(np.uint8)


def _enlarged(info: ImageInfo, config: EnhanceConfig) -> ImageInfo:
    assert config.scale
    return info.resized(info.height * config.scale, info.width * config.scale)


def _failed(error: SrTileError) -> Row:
    return {"kind": "failed", "report": pickle.dumps({**_REPORT, "kind": "failed", "error": str(error)})}
