"""The figures as a picture: needs matplotlib, from the extra `bench`."""

from pathlib import Path
from typing import Any

from sr_tile.errors import ArgumentError, ImageWriteError, SrTileError

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Say at once, not after minutes of measuring, that a picture cannot be drawn.

    Raises:
        SrTileError: matplotlib is missing.
        ArgumentError: the folder does not exist, or the suffix is none of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"{path}: plots end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ArgumentError(f"{path}: the folder {path.parent} does not exist; create it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SrTileError("--plot needs matplotlib; pip install 'sr-tile[bench]', or leave --plot out") from None


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw what `report.as_json` gave: speed and memory over the batch, seams over the overlap.

    Args:
        figures: measured.
        path: one that `check_plot` let pass.

    Raises:
        ImageWriteError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15 if figures["seams"] else 10, 4.5), layout="constrained")
    axes = figure.subplots(1, 3 if figures["seams"] else 2, squeeze=False)[0]
    for name, rows in _lines([row for row in figures["cells"] if "seconds" in row]).items():
        batches = [row["batch"] for row in rows]
        axes[0].plot(batches, [row["image_megapixels_per_second"] for row in rows], "o-", label=name)
        axes[1].plot(batches, [row["peak_bytes"] / 2**30 for row in rows], "o-", label=name)
    for axis, label in ((axes[0], "image megapixels a second"), (axes[1], "peak memory, GiB")):
        axis.set(xlabel="tiles a call", ylabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    if figures["seams"]:
        _draw_seams(axes[2], figures["seams"])
    figure.suptitle(figures["machine"]["cpu"], fontsize="small")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ImageWriteError(f"{path}: cannot be written: {error.strerror}; choose another folder") from None


def _lines(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["batch"]):
        height, width = row["tile"]
        lines.setdefault(f"{row['model']} {row['precision']} {row['device']} {height} x {width}", []).append(row)
    return lines


def _draw_seams(axis: Any, seams: list[dict[str, Any]]) -> None:
    names = {f"{seam['model']} {seam['precision']} {seam['device']}" for seam in seams}
    for name in sorted(names):
        rows = [seam for seam in seams if f"{seam['model']} {seam['precision']} {seam['device']}" == name]
        overlaps = [seam["overlap"] for seam in rows]
        axis.plot(overlaps, [seam["border_largest"] for seam in rows], "o-", label=f"{name}, along borders")
        axis.plot(overlaps, [seam["away_largest"] for seam in rows], "x--", label=f"{name}, elsewhere")
    axis.set(xlabel="overlap, pixels", ylabel="largest difference from the whole, 1/255", yscale="symlog")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
