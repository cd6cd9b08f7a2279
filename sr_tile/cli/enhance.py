"""`sr-tile enhance`: restore or enlarge files."""

import contextlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_tile.cli.options import image_sizes, number_or_auto, parse_parallel, settings_of
from sr_tile.errors import ArgumentError

if TYPE_CHECKING:
    from sr_tile.enhancer import Enhancer
    from sr_tile.jobs import Report
    from sr_tile.work import Stats


def enhance(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="IN... OUT", help="Images, folders or globs; last the file or folder for the results."),
    ],
    model: Annotated[str | None, typer.Option(help="Path of an ONNX file, or name of a bundled model.")] = None,
    scale: Annotated[int | None, typer.Option(min=1, help="Choose the bundled model that enlarges this much.")] = None,
    device: Annotated[
        str,
        typer.Option(
            help="auto, cpu, openvino, cuda, cuda:N, tensorrt, directml, coreml; several as in cuda:0,cuda:1."
        ),
    ] = "auto",
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
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let a server do it, see `sr-tile serve`; its token in SR_TILE_TOKEN."),
    ] = None,
) -> None:
    """Restore or enlarge images.

    One image: `sr-tile enhance in.png out.png`. Many: `sr-tile enhance photos/ more/*.jpg results/`.
    Alpha, colour profile, EXIF and 16 bits are kept; without --overwrite nothing that exists is touched.
    """
    if len(paths) < 2:
        raise typer.BadParameter("give at least one input and one output: IN... OUT")
    workers = parse_parallel(parallel)

    from sr_tile.enhancer import Enhancer
    from sr_tile.images import WriteOptions
    from sr_tile.jobs import Report, pair_files, run_files
    from sr_tile.serving.client import RemoteEnhancer

    if server:
        mine = {"device": device, "batch-size": batch_size, "warmup": warmup, "parallel": parallel}
        _refuse_with_server({**mine, "mem-limit": mem_limit, "stats": stats})
    if overwrite and skip_existing:
        raise ArgumentError("--overwrite and --skip-existing contradict each other; give one of them")
    *inputs, output = paths
    suffix = f".{output_format.lower()}" if output_format else None
    options = WriteOptions(quality=quality, lossless=lossless)
    pairs = pair_files(inputs, output, recursive=recursive, suffix=suffix)
    for file in (report, Path(stats) if stats and stats != "-" else None):
        if file and not file.parent.is_dir():  # known before hours of work, not after
            raise ArgumentError(f"{file}: the folder {file.parent} does not exist; create it first")
    settings = settings_of(tile_size, overlap, halo, batch_size, mem_limit)
    result = Report()
    waiting = [pair.source for pair in pairs if not pair.problem and not (skip_existing and pair.target.exists())]
    sizes = image_sizes(waiting[:MOST_HEADERS])
    work = sum(height * width for height, width in sizes)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_Progress(None if len(waiting) > MOST_HEADERS else work, quiet))
        enhancer: Enhancer | RemoteEnhancer
        if server:
            wanted = {"model": model, "scale": scale, "alpha": alpha, **_said(tile_size, overlap, halo)}
            token = os.environ.get("SR_TILE_TOKEN")
            enhancer = RemoteEnhancer(server, token, options=wanted, on_pixels=lambda job, pixels: progress.add(pixels))
        else:
            enhancer = Enhancer(
                model,
                scale=scale,
                device=device,
                settings=settings,
                work=work,
                alpha=alpha,  # type: ignore[arg-type]
                decoders=workers["decode"],
                encoders=workers["encode"],
                on_pixels=lambda job, pixels: progress.add(pixels),
            )
            enhancer.warm_up(warmup, sizes[0] if sizes else None)
            stack.enter_context(enhancer)
        try:
            for done in run_files(enhancer, pairs, overwrite=overwrite, skip_existing=skip_existing, options=options):
                result.files.append(done)
        finally:
            progress.close()
            _show(result, enhancer if isinstance(enhancer, Enhancer) else None, report, stats)
    if result.failed:
        raise typer.Exit(1)


def _refuse_with_server(options: dict[str, str | None]) -> None:
    """Options that say how this machine is to work mean nothing to another one."""
    for name, value in options.items():
        if value not in (None, "", "auto", "off"):
            raise ArgumentError(f"--{name} is for work on this machine; with --server leave it out")


def _said(tile_size: str, overlap: str, halo: str) -> dict[str, str]:
    """Those that are not `auto`, as a server calls them."""
    values = {"tile_size": tile_size, "overlap": overlap, "halo": halo}
    return {name: value for name, value in values.items() if value != "auto"}


def _show(result: "Report", enhancer: "Enhancer | None", report: Path | None, stats: str | None) -> None:
    """Write what was asked for, and name what failed."""
    from sr_tile import memory
    from sr_tile.jobs import write_json

    content = {}
    if enhancer:
        figures, device = enhancer.stats, enhancer.engine.device
        content = {**asdict(figures), "device": device, "peak_ram_bytes": memory.peak_ram()}
        if stats == "-":
            print(_table(figures, device, memory.format_size(memory.peak_ram())), file=sys.stderr)
        elif stats:
            write_json(Path(stats), content)
    if report:
        result.write(report, content)
    if len(result.files) > 1:
        for file in result.failed:
            print(f"sr-tile: failed: {file.error}", file=sys.stderr)
        if result.failed:
            print(f"sr-tile: error: {len(result.failed)} of {len(result.files)} images failed", file=sys.stderr)
    elif result.failed:
        print(f"sr-tile: error: {result.failed[0].error}", file=sys.stderr)


def _table(figures: "Stats", device: str, peak: str) -> str:
    lines = [
        f"{'stage':8}{'workers':>8}{'in':>8}{'out':>8}{'shortest':>10}{'mean':>10}{'longest':>10}{'busy':>10}{'items/s':>10}"
    ]
    for stage in figures.stages:
        times = "".join(f"{value * 1000:>8.1f}ms" for value in (stage.shortest, stage.mean, stage.longest))
        lines.append(
            f"{stage.name:8}{stage.workers:>8}{stage.items_in:>8}{stage.items_out:>8}{times}{stage.busy:>9.2f}s{stage.throughput:>10.1f}"
        )
    speed = figures.megapixels / figures.seconds if figures.seconds else 0.0
    lines.append(
        f"bottleneck: {figures.bottleneck}; engine idle {figures.engine_idle:.1%}; "
        f"{figures.megapixels:.2f} MP in {figures.seconds:.2f} s = {speed:.2f} MP/s"
    )
    lines.append(
        f"device {device}, tile {figures.tile[0]} x {figures.tile[1]}, batch {figures.batch}; "
        f"redundancy {figures.redundancy:.3f}; peak memory {peak}"
    )
    if figures.redone:
        lines.append(f"{figures.redone} tiles overflowed in float16 and were redone in float32")
    return "\n".join(lines)


class _Progress:
    """A bar on stderr in input megapixels, where stderr is a terminal; `work` is all there is to do, where that is known."""

    def __init__(self, work: int | None, quiet: bool) -> None:
        self._work = work
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        if self._shown:
            from tqdm import tqdm

            total = None if self._work is None else self._work / 1e6
            # tqdm forgets a total that is exceeded, so the last digit must not be lost.
            layout = _BAR if total is None else _BAR_WITH_TOTAL.replace("TOTAL", f"{total:.1f}")
            self._bar = tqdm(
                total=total and total + 1e-3, unit="MP", bar_format=layout, dynamic_ncols=True, leave=False
            )
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Make room for other lines."""
        if self._shown:
            self._bar.close()

    def add(self, pixels: int) -> None:
        """Count input pixels that were finished, or taken back."""
        if self._shown:
            self._bar.update(pixels / 1e6)


MOST_HEADERS = 500  # files are quickly opened, but not any number of them
_BAR = "{n:.1f} MP, {rate_fmt}, {elapsed} so far"
_BAR_WITH_TOTAL = "{percentage:3.0f}%|{bar}| {n:.1f}/TOTAL MP, {rate_fmt}, {remaining} left"
