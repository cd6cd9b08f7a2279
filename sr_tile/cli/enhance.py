"""`sr-tile enhance`: restore or enlarge files."""

import contextlib
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sr_tile.cli.backends import Backend, open_backend
from sr_tile.cli.enhance_options import (
    BackendOptions,
    ComputeOptions,
    EnhanceOptions,
    FileOptions,
    Paths,
    ReportOptions,
)
from sr_tile.cli.figures import summary, table
from sr_tile.cli.options import ModelOptions, SizeOptions, TileOptions
from sr_tile.cli.pipes import PIPE, piped
from sr_tile.errors import ArgumentError, printable
from sr_tile.system import stopping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sr_tile.jobs.report import FileResult, Report
    from sr_tile.jobs.selection import FilePair

log = logging.getLogger("sr_tile")


def enhance(
    paths: Paths,
    model: ModelOptions,
    size: SizeOptions,
    tiles: TileOptions,
    compute: ComputeOptions,
    files: FileOptions,
    backend: BackendOptions,
    report: ReportOptions,
) -> None:
    """Restore or enlarge images.

    One image: `sr-tile enhance in.png out.png`, or `sr-tile enhance in.png` for in-x2.png beside it.
    Many: `sr-tile enhance photos/ more/*.jpg results/`.
    Alpha, colour profile, EXIF and 16 bits are kept; without --overwrite nothing that exists is touched.
    With --job a run that was killed goes on: images, pages, frames, and strips of results above 64 megapixels, are done
    once. Images go one at a time then, for less to be lost; --parallel lets several go.
    """
    named = files.output is not None
    inputs, output = (paths, files.output) if named or not paths[1:] else (paths[:-1], paths[-1])
    if output is None and files.output_template is not None and not Path(inputs[0]).is_dir():
        output = str(Path(inputs[0]).parent)
    elif output is None:
        output = _beside(inputs[0], files.name_suffix or _usual_suffix(model, size), files.suffix)
    elif files.name_suffix:
        raise ArgumentError("--suffix goes with one input alone, whose result lies beside it")
    with piped(inputs, output, files.suffix) as (sources, target):
        options = EnhanceOptions(sources, target, model, size, tiles, compute, files, backend, report)
        done = run(options, open_backend(options))
    if done.failed:
        raise typer.Exit(1)


def _beside(source: str, name_suffix: str, suffix: str | None) -> str:
    """The place of a result for which none was named: beside its input, or what a folder's name makes of it."""
    from sr_tile.images import suffix_for_result

    if source == PIPE:
        return PIPE
    if "/" in name_suffix or os.sep in name_suffix:
        raise ArgumentError(f"--suffix {name_suffix} holds a {os.sep}; folders are for -o, or --output-template")
    path = Path(source)
    if path.is_dir():
        return str(path.absolute().with_name(path.absolute().name + name_suffix))
    return str(path.with_name(path.stem + name_suffix + (suffix or suffix_for_result(path.suffix))))


def _usual_suffix(model: ModelOptions, size: SizeOptions) -> str:
    """What was done, in a few letters."""
    if model.model is not None:
        return "".join(f"-{Path(step).stem}" for step in model.model.split(","))
    wanted = size.target(model.scale)
    return f"-x{wanted.scale or 2:g}" if wanted.scale or not wanted.is_explicit else "-resized"


def run(options: EnhanceOptions, backend: Backend) -> "Report":
    """Do all that the options say, and tell what became of it."""
    from sr_tile.jobs.report import Report

    selection = backend.select()
    for line in selection.describe_left_out(options.report.verbose):
        log.warning("%s", line)
    for line in options.without_effect(pair.target for pair in selection.pairs if not pair.problem):
        log.warning("%s", line)
    options.report.check_targets(pair.target for pair in selection.pairs if not pair.problem)
    report = Report(left_out=selection.left_out)
    if options.files.dry_run:
        _rehearse(report, backend.check(selection.pairs), len(selection.pairs), options.backend.job)
        return report
    try:
        with stopping.unwinding(), contextlib.closing(backend.run(selection.pairs)) as results:
            for result in results:
                report.files.append(result)
    finally:
        if report.files or backend.figures():
            _tell(report, backend, options)
    return report


def _rehearse(report: "Report", found: "Iterable[FilePair | FileResult]", total: int, job: Path | None) -> None:
    """Print what would become of each file, and how much of a job is done."""
    from sr_tile.jobs.report import FileResult

    for item in found:
        line = f"{item.source} -> {item.target}"
        if isinstance(item, FileResult):
            report.files.append(item)
            done = {"done": f"{line}: done already", "skipped": f"{line}: skipped, for it exists"}
            line = done.get(item.status, str(item.error))
        print(printable(line))
    if job:
        done_already = sum(result.status == "done" for result in report.files)
        print(printable(f"job {job}: {done_already} of {total} images are done"))
    if report.failed and total > 1:
        print(f"sr-tile: error: {len(report.failed)} of {total} images would fail", file=sys.stderr)


def _tell(report: "Report", backend: Backend, options: EnhanceOptions) -> None:
    """Write what was asked for, sum it up on a terminal, and name what failed."""
    _write(report, backend, options.report.report, options.report.stats)
    figures = backend.figures()
    if figures and sys.stderr.isatty() and not options.report.quiet:
        left_out = sum(map(len, report.left_out.values()))
        print(f"sr-tile: {summary(figures.stats, left_out)}", file=sys.stderr)
    if len(report.files) > 1:
        for file in report.failed:
            print(f"sr-tile: failed: {printable(str(file.error))}", file=sys.stderr)
        if report.failed:
            print(f"sr-tile: error: {len(report.failed)} of {len(report.files)} images failed", file=sys.stderr)
    elif report.failed:
        print(f"sr-tile: error: {printable(str(report.failed[0].error))}", file=sys.stderr)


def _write(report: "Report", backend: Backend, report_file: Path | None, stats: str | None) -> None:
    from sr_tile.jobs.report import write_json
    from sr_tile.system import memory

    content: dict[str, Any] = {}
    run: dict[str, Any] = {"command": sys.argv[1:]}
    if figures := backend.figures():
        peak = memory.peak_ram()
        content = {**asdict(figures.stats), "device": figures.device, "peak_ram_bytes": peak}
        if stats == "-":
            print(table(figures.stats, figures.device, memory.format_size(peak)), file=sys.stderr)
        elif stats:
            write_json(Path(stats), content)
        run["model"] = figures.model
    if report_file:
        report.write(report_file, {**run, "stats": content})
