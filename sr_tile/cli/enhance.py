"""`sr-tile enhance`: restore or enlarge files."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sr_tile.cli.options import as_number, number_or_auto, parse_parallel
from sr_tile.errors import ArgumentError

if TYPE_CHECKING:
    from sr_tile.jobs import FilePair, Report
    from sr_tile.pipeline import Stats


def enhance(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="IN... OUT", help="Images, folders or globs; last the file or folder for the results."),
    ],
    model: Annotated[str | None, typer.Option(help="Path of an ONNX file, or name of a bundled model.")] = None,
    scale: Annotated[int | None, typer.Option(min=1, help="Choose the bundled model that enlarges this much.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, tensorrt, directml, coreml.")] = "auto",
    tile_size: Annotated[
        str, typer.Option(callback=number_or_auto, help="Side of a tile in pixels, or auto.")
    ] = "auto",
    overlap: Annotated[
        str, typer.Option(callback=number_or_auto, help="Pixels that two neighbouring tiles share, or auto.")
    ] = "auto",
    halo: Annotated[
        str, typer.Option(callback=number_or_auto, help="Pixels of the overlap that each tile discards, or auto.")
    ] = "auto",
    batch_size: Annotated[str, typer.Option(callback=number_or_auto, help="Tiles a call, or auto.")] = "auto",
    mem_limit: Annotated[str | None, typer.Option(help="Memory of the whole process, such as 2GiB.")] = None,
    alpha: Annotated[str, typer.Option(help="Enlarge alpha by `bicubic` interpolation or by the `model`.")] = "bicubic",
    warmup: Annotated[str, typer.Option(help="Run once before the first image: off, zeros, random.")] = "off",
    output_format: Annotated[
        str | None, typer.Option("--format", help="Format of results in a folder: png, jpeg, tiff, webp, avif.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of JPEG, WebP and AVIF.")] = 95,
    lossless: Annotated[bool, typer.Option("--lossless", help="Write WebP and AVIF without loss.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave results that exist alone.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders below, too.")] = False,
    parallel: Annotated[str, typer.Option(help="Workers, as in decode=2,encode=2.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write what became of each file, as JSON.")] = None,
    stats: Annotated[
        str | None,
        typer.Option(metavar="[FILE.json]", help="Print figures of each stage and the bottleneck, or write them."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Restore or enlarge images.

    One image: `sr-tile enhance in.png out.png`. Many: `sr-tile enhance photos/ more/*.jpg results/`.
    Alpha, colour profile, EXIF and 16 bits are kept; without --overwrite nothing that exists is touched.
    """
    if len(paths) < 2:
        raise typer.BadParameter("give at least one input and one output: IN... OUT")
    workers = parse_parallel(parallel)

    from sr_tile import memory
    from sr_tile.enhancer import Enhancer
    from sr_tile.images import WriteOptions
    from sr_tile.jobs import Report, pair_files, run_files
    from sr_tile.planner import Settings

    if overwrite and skip_existing:
        raise ArgumentError("--overwrite and --skip-existing contradict each other; give one of them")
    *inputs, output = paths
    suffix = f".{output_format.lower()}" if output_format else None
    options = WriteOptions(quality=quality, lossless=lossless)
    pairs = pair_files(inputs, Path(output), recursive=recursive, suffix=suffix)
    wish: Any = {
        name: as_number(value) for name, value in (("tile", tile_size), ("overlap", overlap), ("batch", batch_size))
    }
    settings = Settings(
        **wish,
        halo=None if halo == "auto" else int(halo),
        mem_limit=memory.parse_size(mem_limit) if mem_limit else None,
    )
    with _Progress(pairs, quiet) as progress:
        enhancer = Enhancer(
            model,
            scale=scale,
            device=device,
            settings=settings,
            alpha=alpha,  # type: ignore[arg-type]
            warmup=warmup,
            decoders=workers["decode"],
            encoders=workers["encode"],
            on_pixels=lambda job, pixels: progress.add(pixels),
        )
        result = Report()
        with enhancer:
            for file in run_files(enhancer, pairs, overwrite=overwrite, skip_existing=skip_existing, options=options):
                result.files.append(file)
            figures = enhancer.stats
    _finish(result, figures, report, stats)


def _finish(result: "Report", figures: "Stats", report: Path | None, stats: str | None) -> None:
    """Write what was asked for, name what failed, and exit with 1 if anything did."""
    from sr_tile import memory

    content = {**asdict(figures), "peak_ram_bytes": memory.peak_ram()}
    if report:
        result.write(report, content)
    if stats == "-":
        print(_table(figures, memory.format_size(memory.peak_ram())), file=sys.stderr)
    elif stats:
        Path(stats).write_text(json.dumps(content, indent=2) + "\n")
    if not result.failed:
        return
    if len(result.files) == 1:
        print(f"sr-tile: error: {result.failed[0].error}", file=sys.stderr)
    else:
        for file in result.failed:
            print(f"sr-tile: failed: {file.error}", file=sys.stderr)
        print(f"sr-tile: error: {len(result.failed)} of {len(result.files)} images failed", file=sys.stderr)
    raise typer.Exit(1)


def _table(figures: "Stats", peak: str) -> str:
    lines = [
        f"{'stage':8}{'workers':>8}{'items':>8}{'shortest':>10}{'mean':>10}{'longest':>10}{'busy':>10}{'items/s':>10}"
    ]
    for stage in figures.stages:
        times = "".join(f"{value * 1000:>8.1f}ms" for value in (stage.shortest, stage.mean, stage.longest))
        lines.append(
            f"{stage.name:8}{stage.workers:>8}{stage.items:>8}{times}{stage.busy:>9.2f}s{stage.throughput:>10.1f}"
        )
    speed = figures.megapixels / figures.seconds if figures.seconds else 0.0
    lines.append(
        f"bottleneck: {figures.bottleneck}; engine idle {figures.engine_idle:.1%}; "
        f"{figures.megapixels:.2f} MP in {figures.seconds:.2f} s = {speed:.2f} MP/s"
    )
    lines.append(
        f"tile {figures.tile[0]} x {figures.tile[1]}, batch {figures.batch}; "
        f"redundancy {figures.redundancy:.3f}; peak memory {peak}"
    )
    if figures.redone:
        lines.append(f"{figures.redone} tiles overflowed in float16 and were redone in float32")
    return "\n".join(lines)


class _Progress:
    """A bar on stderr in input megapixels, where stderr is a terminal."""

    def __init__(self, pairs: "list[FilePair]", quiet: bool) -> None:
        self._pairs = pairs
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        if self._shown:
            from tqdm import tqdm

            total = self._megapixels()
            self._bar = tqdm(total=total, unit="MP", unit_scale=False, bar_format=_BAR, dynamic_ncols=True, leave=False)
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._bar.close()

    def add(self, pixels: int) -> None:
        """Count input pixels that were finished, or taken back."""
        if self._shown:
            self._bar.update(pixels / 1e6)

    def _megapixels(self) -> float | None:
        """All there is to do, by the headers; unknown for more files than are quickly opened."""
        from sr_tile.errors import ImageError
        from sr_tile.images import ImageReader

        if len(self._pairs) > 500:
            return None
        total = 0.0
        for pair in self._pairs:
            try:
                with ImageReader(pair.source) as reader:
                    total += reader.info.height * reader.info.width / 1e6
            except ImageError:
                continue
        return total


_BAR = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} MP, {rate_fmt}, {remaining} left"
