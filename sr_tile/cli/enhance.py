"""`sr-tile enhance`: restore or enlarge files."""

import contextlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sr_tile.cli.figures import MOST_HEADERS, Progress, table
from sr_tile.cli.options import (
    BatchSize,
    Device,
    Halo,
    MemLimit,
    Model,
    Overlap,
    Scale,
    TileSize,
    image_sizes,
    parse_parallel,
    settings_of,
)
from sr_tile.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sr_tile.enhancer import Enhancer
    from sr_tile.jobs.files import FileResult, Report


def enhance(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="IN... OUT", help="Images, folders or globs; last the file or folder for the results."),
    ],
    model: Model = None,
    scale: Scale = None,
    device: Device = "auto",
    tile_size: TileSize = "auto",
    overlap: Overlap = "auto",
    halo: Halo = "auto",
    batch_size: BatchSize = "auto",
    mem_limit: MemLimit = None,
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
    job: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep a journal here: the same command goes on where it was killed."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --job: try images again that failed before.")
    ] = False,
    engine: Annotated[str, typer.Option(help="`local`, or `ray` for many actors and machines.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; without one Ray is started here.")] = None,
    actors: Annotated[int, typer.Option(min=1, help="Engines at a time, with --engine ray.")] = 1,
    gpus_per_actor: Annotated[float, typer.Option(min=0, help="GPUs of each; a fraction shares one.")] = 0.0,
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
    With --job a run that was killed goes on: images, and bands of results above 64 megapixels, are done once. Images go
    one at a time then, for less to be lost; --parallel lets several go.
    """
    if len(paths) < 2:
        raise typer.BadParameter("give at least one input and one output: IN... OUT")
    workers = parse_parallel(parallel)

    from sr_tile.images import WriteOptions
    from sr_tile.jobs.files import Report, pair_files, run_files
    from sr_tile.jobs.resumable import ResumableJob, describe

    if server:
        _refuse_with_server(
            {"device": device, "batch-size": batch_size, "mem-limit": mem_limit, "warmup": warmup, "parallel": parallel,
             "stats": stats, "job": job, "engine": engine if engine != "local" else None}
        )  # fmt: skip
    contradictions = {
        "--engine is local or ray": engine not in ("local", "ray"),
        "--address, --actors and --gpus-per-actor go with --engine ray": engine == "local"
        and bool(address or actors > 1 or gpus_per_actor),
        "--stats, --parallel and --warmup go with --engine local": engine == "ray"
        and bool(stats or parallel or warmup != "off"),
        "--retry-failed goes with --job DIR, whose journal says what failed": retry_failed and not job,
        "--overwrite and --skip-existing contradict each other; give one of them": overwrite and skip_existing,
    }
    for message, wrong in contradictions.items():
        if wrong:
            raise ArgumentError(message)
    *inputs, output = paths
    suffix = f".{output_format.lower()}" if output_format else None
    options = WriteOptions(quality=quality, lossless=lossless)
    for file in (report, Path(stats) if stats and stats != "-" else None):
        if file and not file.parent.is_dir():  # known before hours of work, not after
            raise ArgumentError(f"{file}: the folder {file.parent} does not exist; create it first")
    settings = settings_of(tile_size, overlap, halo, batch_size, mem_limit)
    result = Report()
    common: Any = {"overwrite": overwrite, "skip_existing": skip_existing}
    with contextlib.ExitStack() as stack:
        resumable = None
        if job:
            facts: Any = {"device": device, "tile": tile_size, "overlap": overlap, "halo": halo, "alpha": alpha}
            resumable = stack.enter_context(ResumableJob(job, describe(model, scale, **facts, **asdict(options))))
            common["retry_failed"] = retry_failed
            device = resumable.device or device
        if engine == "ray":
            result.files += _on_ray(
                (inputs, output, {"recursive": recursive, "suffix": suffix}),
                (model, scale, device, settings, alpha, options),
                (address, actors, gpus_per_actor),
                job=resumable,
                **common,
            )
            _show(result, None, report, None)
            raise typer.Exit(1 if result.failed else 0)
        pairs = pair_files(inputs, output, recursive=recursive, suffix=suffix)
        todo = [pair for pair in pairs if not pair.problem and not (skip_existing and pair.target.exists())]
        waiting = [pair.source for pair in todo if not (resumable and resumable.known(pair, retry_failed))]
        sizes = image_sizes(waiting[:MOST_HEADERS])
        work = sum(height * width for height, width in sizes)
        progress = stack.enter_context(Progress(None if len(waiting) > MOST_HEADERS else work, quiet))
        enhancer: Any
        if server:
            from sr_tile.serving.client import RemoteEnhancer

            wanted = {"model": model, "scale": scale, "alpha": alpha, **_said(tile_size, overlap, halo)}
            token = os.environ.get("SR_TILE_TOKEN")
            enhancer = RemoteEnhancer(
                server, token, options=wanted, on_progress=lambda job, pixels: progress.add(pixels)
            )
        else:
            from sr_tile.enhancer import Enhancer

            enhancer = Enhancer(
                model,
                scale=scale,
                device=device,
                settings=settings,
                expected_pixels=work,
                alpha=alpha,  # type: ignore[arg-type]
                decoders=workers["decode"],
                encoders=workers["encode"],
                on_progress=lambda job, pixels: progress.add(pixels),
                max_in_flight=1 if job and not parallel else None,
            )
            stack.enter_context(enhancer)
            if resumable and resumable.plan:
                enhancer.use_plan(resumable.plan)
            enhancer.warm_up(warmup, sizes[0] if sizes else None)
        run: Any = resumable.run if resumable else run_files
        try:
            for done in run(enhancer, pairs, options=options, **common):
                result.files.append(done)
        finally:
            progress.close()
            _show(result, None if server else enhancer, report, stats)
    if result.failed:
        raise typer.Exit(1)


def _on_ray(places: Any, config: Any, fleet: Any, **common: Any) -> "Iterator[FileResult]":
    from sr_tile.distributed.ray_data import RayConfig, run_ray
    from sr_tile.distributed.storage import pair_urls
    from sr_tile.distributed.tasks import EnhanceConfig

    inputs, output, options = places
    return run_ray(pair_urls(inputs, output, **options), EnhanceConfig(*config), RayConfig(*fleet), **common)


def _refuse_with_server(options: dict[str, Any]) -> None:
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
    from sr_tile.jobs.files import write_json
    from sr_tile.system import memory

    content = {}
    if enhancer:
        figures, device = enhancer.stats, enhancer.engine.device
        content = {**asdict(figures), "device": device, "peak_ram_bytes": memory.peak_ram()}
        if stats == "-":
            print(table(figures, device, memory.format_size(memory.peak_ram())), file=sys.stderr)
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
