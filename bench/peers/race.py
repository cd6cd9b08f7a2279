"""Rounds over all contenders, each run in a process of its own; one table and one plot a network."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import ROOT, enhance_command, markdown, note, photograph, yes_no
from PIL import Image

from peers.contenders import CONTENDERS, tiles
from peers.networks import prepare
from sr_tile import Enhancer

FULL = (3000, 4000)
TITLES = {"x2": "Bundled x2", "nafnet": "NAFNet-GoPro-w32, random weights, local pooling"}
# Megapixels of the picture for the slow ones; their time is scaled by the exact number of tiles. Others take all 12.
QUICK = {"x2": {"PyTorch loop": 1}, "nafnet": {"PyTorch loop": 0.3}}
QUICK_OTHERS = {"x2": 4.0, "nafnet": 2.0}
THOROUGH = {"x2": {}, "nafnet": {"PyTorch loop": 2}}
ERROR_MEGAPIXELS = {"x2": 1.0, "nafnet": 0.6}
SAME_ANSWER = {"MONAI, batch 4": "MONAI, batch 1", "MONAI, batch 8": "MONAI, batch 1"}  # the same tiles, in other calls
WHOLE_SHARE = 0.5  # of free memory that the whole image may take
FILES = "sr-tile, file to file"


@dataclass
class Entry:
    """One contender's figures; `size` is (height, width) of the picture it was timed on."""

    name: str
    size: tuple[int, int]
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    errors: tuple[float, float, float] | None = None  # largest, mean, largest step between neighbouring pixels
    factor: float = 1.0

    @property
    def scaled(self) -> list[float]:
        """Seconds for the full picture."""
        return [value * self.factor for value in self.seconds]


def size_of(megapixels: float) -> tuple[int, int]:
    """(height, width) of a picture of 3 : 4."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return height, round(height * 4 / 3)


def race(name: str, folder: Path, quick: bool) -> str:
    """Run the race of one network and write it down."""
    path = prepare(name, folder)
    photograph(folder / "full.png", *FULL)
    picture = np.asarray(Image.open(folder / "full.png"))
    wanted = QUICK[name] if quick else THOROUGH[name]
    price = _run("whole image", name, path, picture[: size_of(0.5)[0], : size_of(0.5)[1]], folder)["peak_bytes"] / 0.5
    entries = []
    for contender in CONTENDERS:
        megapixels = wanted.get(contender, QUICK_OTHERS[name] if quick else 12)
        if contender == "whole image":
            megapixels = min(megapixels, WHOLE_SHARE * psutil.virtual_memory().available / price)
        size = FULL if megapixels >= 12 else size_of(megapixels)
        entries.append(Entry(contender, size, factor=_factor(contender, path, size)))
    _errors(name, path, picture, entries, folder)
    files, chosen = Entry(FILES, FULL), ""
    for number in range(2 if quick else 3):
        for entry in entries:
            note(f"{name}, round {number + 1}: {entry.name} on {entry.size[0]} x {entry.size[1]}")
            done = _run(entry.name, name, path, picture[: entry.size[0], : entry.size[1]], folder)
            entry.seconds.append(done["seconds"])
            entry.peaks.append(done["peak_bytes"])
            if "plan" in done:
                chosen = f"sr-tile ran on {done['plan']}; redundancy {done['redundancy']:.3f}."
        if not (quick and (number or name != "x2")):
            note(f"{name}, round {number + 1}: {FILES}")
            command = enhance_command(folder / "full.png", folder / "out.png", "--model", path, "--overwrite")
            files.seconds.append(command.seconds)
            files.peaks.append(command.peak_bytes)
    _plot(name, entries, quick)
    return "\n\n".join(
        [_table(name, entries, [files] if files.seconds else []), chosen, f"![{name}](peers_{name}.png)"]
    )


def _factor(contender: str, path: Path, size: tuple[int, int]) -> float:
    """How much longer the full picture takes: by tiles, or for the whole image by pixels."""
    if contender == "whole image":
        return FULL[0] * FULL[1] / (size[0] * size[1])
    if contender != "sr-tile":
        return tiles(FULL) / tiles(size)
    if size == FULL:
        return 1.0
    with Enhancer(path, expected_pixels=FULL[0] * FULL[1]) as enhancer:
        full, part = (enhancer.plan.grid(*each) for each in (FULL, size))
        return len(full) * np.prod(full.tile) / (len(part) * np.prod(part.tile))


def _errors(name: str, path: Path, picture: np.ndarray, entries: list[Entry], folder: Path) -> None:
    """How far each is from the whole image in one call, in steps of 1 / 255."""
    height, width = size_of(ERROR_MEGAPIXELS[name])
    small = picture[:height, :width].astype(np.float32) / 255
    wanted = None
    for entry in reversed(entries):  # the whole image comes last in the list
        if entry.name in SAME_ANSWER:
            continue
        note(f"{name}: error of {entry.name}")
        _run(entry.name, name, path, small, folder, folder / "answer.npy")
        answer = np.load(folder / "answer.npy")
        if wanted is None:
            wanted = answer
        else:
            entry.errors = _gaps((answer - wanted) * 255)
    for entry in entries:
        if entry.name in SAME_ANSWER:
            entry.errors = next(other.errors for other in entries if other.name == SAME_ANSWER[entry.name])


def _gaps(error_hwc: np.ndarray) -> tuple[float, float, float]:
    """Largest, mean, and the largest change from one pixel to its neighbour, which is what shows as a seam."""
    steps = max(float(np.abs(np.diff(error_hwc, axis=axis)).max()) for axis in (0, 1))
    return float(np.abs(error_hwc).max()), float(np.abs(error_hwc).mean()), steps


def _run(
    contender: str, name: str, path: Path, image: np.ndarray, folder: Path, output: Path | None = None
) -> dict[str, Any]:
    np.save(folder / "image.npy", image)
    command = [sys.executable, "-m", "peers.worker", contender, name, str(path), str(folder / "image.npy")]
    command += ["--output", str(output)] if output else []
    bench = str(ROOT / "bench")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), bench])}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=bench)
    return json.loads(result.stdout.splitlines()[-1])


def _ratio(entry: Entry, own: Entry) -> float:
    """Median over rounds of how much longer it takes than ours in the same round."""
    pairs = zip(entry.scaled, own.scaled, strict=False)
    return statistics.median(other / ours for other, ours in pairs)


def _table(name: str, entries: list[Entry], files: list[Entry]) -> str:
    own = entries[0]
    rows = []
    for entry in [*entries, *files]:
        height, width = entry.size
        seconds = statistics.median(entry.scaled)
        error = [f"{value:.3f}" for value in entry.errors] if entry.errors else [""] * 3
        measured = f"{height * width / 1e6:.2f} MP" + ("" if entry.factor == 1 else f", x {entry.factor:.2f}")
        peak = f"{max(entry.peaks) / 2**30:.2f} GiB"
        rows.append([entry.name, f"{seconds:.1f} s", f"{_ratio(entry, own):.2f}", measured, peak, *error])
    heads = [
        "",
        "12 MP",
        "of sr-tile's time",
        "measured on",
        "peak memory",
        "largest error",
        "mean error",
        "largest seam",
    ]
    by = {entry.name: entry for entry in entries}
    best = min(_ratio(by[key], own) for key in by if key.startswith("MONAI"))
    error, seam = (own.errors[i] / min(entry.errors[i] for entry in entries[1:] if entry.errors) for i in (0, 2))
    bounds = [
        ("plain loop", _ratio(by["plain loop"], own), ">= 2", lambda value: value >= 2),
        ("best of MONAI", best, ">= 1.5", lambda value: value >= 1.5),
        ("PyTorch loop", _ratio(by["PyTorch loop"], own), ">= 2", lambda value: value >= 2),
        ("our time over the whole image's", 1 / _ratio(by["whole image"], own), "<= 1.25", lambda value: value <= 1.25),
        ("our largest error over the least of theirs", error, "<= 1", lambda value: value <= 1),
        ("our largest seam over the least of theirs", seam, "<= 1", lambda value: value <= 1),
    ]
    checks = [[what, f"{value:.2f}", bound, yes_no(kept(value))] for what, value, bound, kept in bounds]
    return "\n\n".join(
        [
            markdown(heads, rows),
            markdown(["against", "ratio", "bound", "kept"], checks),
        ]
    )


def _plot(name: str, entries: list[Entry], quick: bool) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    names = [entry.name for entry in entries]
    colours = ["tab:orange" if entry.name == "sr-tile" else "tab:blue" for entry in entries]
    panels = (
        ("seconds for 12 MP", [statistics.median(entry.scaled) for entry in entries]),
        ("peak memory, GiB", [max(entry.peaks) / 2**30 for entry in entries]),
        ("largest error, 1/255", [entry.errors[0] if entry.errors else 0.0 for entry in entries]),
    )
    for axis, (label, values) in zip(axes, panels, strict=True):
        axis.barh(names, values, color=colours)
        axis.set_xlabel(label)
        axis.invert_yaxis() if axis is axes[0] else None
    figure.suptitle(TITLES[name] + (", quick run" if quick else ""), fontsize="medium")
    figure.savefig(ROOT / "bench" / f"peers_{name}.png", dpi=110)


def section(name: str, folder: Path, quick: bool) -> str:
    """The part of RESULTS.md for one network."""
    intro = (
        "The same ONNX file, the same picture, arrays of 8 bits in and out, 256-pixel tiles with an overlap of 64 for the "
        "others, each run in a process of its own, in turn; ratios are medians of those inside a round. Where a picture is "
        "smaller than 12 MP, its time is scaled by the exact number of tiles (whole image: of pixels). Errors are against "
        f"the whole image in one call, in steps of 1/255, on {ERROR_MEGAPIXELS[name]} MP; a seam is how much the error "
        "changes from one pixel to the next."
    )
    return "\n\n".join([f"## Against the usual ways: {TITLES[name]}", intro, race(name, folder, quick)])
