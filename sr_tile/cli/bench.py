"""`sr-tile bench`: how fast a model runs here, in which tiles and batches, and how far from the limit."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sr_tile.cli.options import numbers, show, words


def bench(
    model: Annotated[list[str], typer.Option(help="Path of an ONNX file, or name of a model; may be repeated.")] = [  # noqa: B006
        "clean-x2"
    ],
    precision: Annotated[
        str, typer.Option(help="file (as it is), fp16, int8: the latter two are made for the run.")
    ] = "file",
    device: Annotated[str, typer.Option(help="Devices with commas between, such as cpu,cuda.")] = "auto",
    tile_size: Annotated[str, typer.Option(callback=numbers, help="Sides of tiles in pixels.")] = "128,256,512",
    batch_size: Annotated[str, typer.Option(callback=numbers, help="Tiles a call; 1 is always measured.")] = "1,2,4,8",
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")] = 5,
    seams: Annotated[bool, typer.Option("--seams", help="Compare tiled with whole output, at each --overlap.")] = False,
    overlap: Annotated[str, typer.Option(callback=numbers, help="Overlaps for --seams, in pixels.")] = "0,16,32,64",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer tiles, batches and rounds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw speed, memory and seams into this file ([bench]).")] = None,
) -> None:
    """Measure which tiles and batches of a model are fastest.

    Every tile x batch x precision x device is measured, in turn. Progress goes to stderr,
    results to stdout. Ctrl-C stops early and shows what was measured.
    """
    from sr_tile.benchmark import machine, report
    from sr_tile.benchmark.plot import check_plot, draw
    from sr_tile.benchmark.run import BenchmarkOptions, run

    if plot:
        check_plot(plot)
    options = BenchmarkOptions(
        models=tuple(model),
        precisions=words(precision),
        devices=words(device),
        tiles=_list(tile_size),
        batches=_list(batch_size),
        repeat=repeat,
        overlaps=_list(overlap) if seams else None,
    )
    if quick:
        options = options.quicker()
    measurement, found = run(options, _show)
    here = machine.describe()
    figures = report.as_json(measurement, found, here)
    show(json.dumps(figures, indent=2) if as_json else report.as_text(measurement, found, here))
    if plot:
        draw(figures, plot)
    if measurement.interrupted:
        raise typer.Exit(130)


def _list(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split(","))


def _show(done: int, total: int, text: str) -> None:
    """One line on stderr; on a terminal it is overwritten by the next."""
    counted = f"{done + 1}/{total} " if total else ""
    ending = "\n"
    if sys.stderr.isatty():
        counted, ending = f"\r\033[K{counted}", "" if not total or done + 1 < total else "\r\033[K"
    print(f"{counted}{text}", end=ending, file=sys.stderr, flush=True)
