"""What was measured, for programs and for people."""

from collections.abc import Sequence
from typing import Any

from sr_tile.benchmark.cells import Cell, Measurement, limit_key
from sr_tile.benchmark.machine import sentence
from sr_tile.benchmark.seams import Seam
from sr_tile.system import memory


def as_json(measurement: Measurement, seams: Sequence[Seam], machine: dict[str, Any]) -> dict[str, Any]:
    """All figures, ready for JSON; seconds, bytes and operations, differences of seams in steps of 1 / 255."""
    limits = {key: max(rates) for key, rates in measurement.limits.items() if rates}
    best = winner(measurement)
    return {
        "machine": machine,
        "interrupted": measurement.interrupted,
        "limits": [
            {"device": device, "number_type": kind, "operations_per_second": rate}
            for (device, kind), rate in limits.items()
        ],
        "cells": [_row(cell, measurement, limits) for cell in measurement.cells],
        "winner": best and {key: value for key, value in best.items() if key != "cell"},
        "seams": [{**_subject(seam), **_figures(seam)} for seam in seams],
    }


def _figures(seam: Seam) -> dict[str, Any]:
    """The fields of a seam but its subject."""
    return {name: getattr(seam, name) for name in Seam.__dataclass_fields__ if name != "subject"}


def _subject(item: Cell | Seam) -> dict[str, Any]:
    subject = item.subject
    return {"model": subject.name, "precision": subject.precision, "device": subject.engine.device}


def _row(cell: Cell, measurement: Measurement, limits: dict[tuple[str, str], float]) -> dict[str, Any]:
    row = {**_subject(cell), "tile": list(cell.tile), "batch": cell.batch, "overlap": cell.overlap}
    row |= {"chosen_by_enhance": cell.is_chosen, "failure": cell.failure, "macs": cell.macs}
    if not cell.seconds:
        return row
    limit = limits.get(limit_key(cell.subject))
    return row | {
        "seconds": cell.seconds,
        "seconds_per_batch": cell.median,
        "tiles_per_second": cell.tiles_per_second,
        "megapixels_per_second": cell.computed_rate,
        "image_megapixels_per_second": cell.image_rate,
        "speedup_over_batch_1": _speedup(cell, measurement),
        "share_of_limit": 2 * cell.macs / cell.median / limit if limit and cell.macs else None,
        "peak_bytes": cell.peak,
        "largest_difference_from_batch_1": cell.difference,
    }


def _speedup(cell: Cell, measurement: Measurement) -> float | None:
    """Tiles per second over those of one tile a call."""
    for other in measurement.done:
        if other.subject is cell.subject and other.tile == cell.tile and other.batch == 1:
            return cell.tiles_per_second / other.tiles_per_second
    return None


def winner(measurement: Measurement) -> dict[str, Any] | None:
    """The cell that does the most of an image a second, and by how much: over the next, and over what `enhance` chooses."""
    ranked = sorted(measurement.done, key=lambda cell: cell.image_rate, reverse=True)
    if not ranked:
        return None
    best = ranked[0]
    chosen = [cell for cell in ranked if cell.is_chosen and cell.subject is best.subject]
    return {
        "cell": best,
        "index": next(i for i, cell in enumerate(measurement.cells) if cell is best),
        "over_next": best.image_rate / ranked[1].image_rate if len(ranked) > 1 else None,
        "over_enhance": best.image_rate / chosen[0].image_rate if chosen else None,
    }


def as_text(measurement: Measurement, seams: Sequence[Seam], machine: dict[str, Any]) -> str:
    """Tables, the winner and the limit."""
    figures = as_json(measurement, seams, machine)
    lines = [sentence(machine), ""]
    if measurement.cells:
        lines += _cells_table(figures)
    best = winner(measurement)
    if best:
        lines += ["", _winner_line(best, figures["cells"][best["index"]])]
    for limit in figures["limits"]:
        rate = limit["operations_per_second"] / 1e9
        lines.append(f"limit: matrix products of {limit['number_type']} on {limit['device']}, {rate:,.0f} GFLOP/s")
    if seams:
        lines += ["", *_seams_table(seams)]
    if measurement.interrupted:
        lines += ["", "stopped early: medians are of the rounds that were finished"]
    return "\n".join(lines)


def _cells_table(figures: dict[str, Any]) -> list[str]:
    heads = (
        "tile",
        "batch",
        "ms/batch",
        "tiles/s",
        "MP/s",
        "image MP/s",
        "speed-up",
        "of limit",
        "memory",
        "difference",
    )
    wide = max((len(_name(row)) for row in figures["cells"]), default=0) + 2
    lines = [f"{'model':{wide}}" + "".join(f"{head:>12}" for head in heads)]
    for row in figures["cells"]:
        start = f"{_name(row):{wide}}{'{}x{}'.format(*row['tile']):>12}{row['batch']:>11}"
        start += "*" if row["chosen_by_enhance"] else " "
        if "seconds" not in row:
            lines.append(f"{start}  {row['failure'] or 'not measured'}")
            continue
        share, speedup = row["share_of_limit"], row["speedup_over_batch_1"]
        values = [
            f"{row['seconds_per_batch'] * 1e3:.1f}",
            f"{row['tiles_per_second']:.2f}",
            f"{row['megapixels_per_second']:.3f}",
            f"{row['image_megapixels_per_second']:.3f}",
            f"{speedup:.2f} x" if speedup else "-",
            f"{share:.0%}" if share else "-",
            memory.format_size(row["peak_bytes"]),
            f"{row['largest_difference_from_batch_1']:.1e}",
        ]
        lines.append(start + "".join(f"{value:>12}" for value in values))
    lines.append("* what `enhance` chooses by itself. image MP/s: what neighbouring tiles share counts once.")
    return lines


def _name(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['precision']} {row['device']}"


def _winner_line(best: dict[str, Any], row: dict[str, Any]) -> str:
    cell = best["cell"]
    height, width = cell.tile
    line = f"fastest: {_name(row)}, tile {height} x {width}, batch {cell.batch}: {cell.image_rate:.3f} image MP/s"
    if best["over_next"]:
        line += f", {best['over_next'] - 1:.1%} more than the next"
    if best["over_enhance"]:
        more = best["over_enhance"] - 1
        line += "; `enhance` chooses it" if more == 0 else f", {more:.1%} more than what `enhance` chooses"
    if row["share_of_limit"]:
        line += f"; {row['share_of_limit']:.0%} of the matrix rate"
    return line


def _seams_table(seams: Sequence[Seam]) -> list[str]:
    heads = ("tile", "overlap", "halo", "largest", "mean", "largest", "mean")
    names = [f"{seam.subject.name} {seam.subject.precision} {seam.subject.engine.device}" for seam in seams]
    wide = max(map(len, names)) + 2
    lines = [
        "tiled against whole, in steps of 1/255",
        f"{'':{wide + 36}}{'along borders':>24}{'elsewhere':>24}",
        f"{'model':{wide}}" + "".join(f"{head:>12}" for head in heads),
    ]
    for name, seam in zip(names, seams, strict=True):
        counts = "".join(f"{value:>12}" for value in (seam.tile, seam.overlap, seam.halo))
        gaps = (seam.border_largest, seam.border_mean, seam.away_largest, seam.away_mean)
        lines.append(f"{name:{wide}}{counts}" + "".join(f"{gap:>12.4f}" for gap in gaps))
    return lines
