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

from peers.contenders import CONTENDERS, TILE, tiles
from peers.networks import SCALES, prepare
from sr_tile import Enhancer

FULL = (3000, 4000)
TITLES = {
    "x2": "Bundled clean-x2",
    "denoise": "Bundled denoise",
    "nafnet": "NAFNet-GoPro-w32, random weights, local pooling",
    "scunet": "SCUNet, random weights",
}
# Megapixels of the picture; times are scaled by the exact number of tiles. The rest takes all 12 in a full run.
QUICK = {"x2": 0.7, "denoise": 1.0, "nafnet": 0.4, "scunet": 0.15}
SLOW = {  # in any run
    **{("nafnet", name): 0.2 for name in ("PyTorch loop", "PyTorch loop, bf16", "ncnn loop", "ncnn loop, bf16")},
    **{("scunet", name): 0.065 for name in ("PyTorch loop", "PyTorch loop, bf16")},  # one tile
    **{(network, "PyTorch loop"): 0.4 for network in ("x2", "denoise")},
}
THOROUGH = {"x2": 12.0, "denoise": 12.0, "nafnet": 2.0, "scunet": 1.0}
LEFT_OUT = {
    "x2": ("sr-tile, bf16",),  # is what sr-tile takes
    "denoise": ("sr-tile, bf16", "sr-tile, int8"),
    "nafnet": ("sr-tile, int8",),
    "scunet": ("sr-tile, int8", "ncnn loop", "ncnn loop, bf16"),  # pnnx leaves operators that ncnn does not know
}
RANDOM = ("nafnet", "scunet")  # networks whose figures of agreement say nothing
EDGE = 64  # pixels at the end of a piece of the picture, which see what is not there
WHOLE_SHARE = 0.5  # of free memory that the whole image may take
FILES = "sr-tile, file to file"
BASE = "plain loop"
WANTED = {"x2": 4.2, "denoise": 3.0, "nafnet": 2.0, "scunet": 3.0}  # times as fast as that, on processors with bfloat16


@dataclass
class Entry:
    """One contender's figures; `size` is (height, width) of the picture it was timed on."""

    name: str
    size: tuple[int, int]
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    errors: tuple[float, float, float] | None = None  # largest, PSNR, largest step between neighbouring pixels
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
    usual = QUICK[name] if quick else THOROUGH[name]
    price = _run("whole image", name, path, picture[: size_of(0.2)[0], : size_of(0.2)[1]], folder)["peak_bytes"] / 0.2
    entries = []
    for contender in CONTENDERS:
        if contender in LEFT_OUT[name]:
            continue
        megapixels = min(usual, SLOW.get((name, contender), usual))
        if contender == "whole image":
            megapixels = min(megapixels, WHOLE_SHARE * psutil.virtual_memory().available / price)
        size = FULL if megapixels >= 12 else size_of(max(megapixels, 0.0875)) if megapixels > 0.07 else (TILE, TILE)
        entries.append(Entry(contender, size, factor=_factor(contender, path, size)))
    files, chosen = Entry(FILES, FULL), dict[str, str]()
    for number in range(2 if quick else 3):
        for entry in entries:
            note(f"{name}, round {number + 1}: {entry.name} on {entry.size[0]} x {entry.size[1]}")
            part = picture[: entry.size[0], : entry.size[1]]
            done = _run(entry.name, name, path, part, folder, folder / f"{entry.name}.npy" if number == 0 else None)
            entry.seconds.append(done["seconds"])
            entry.peaks.append(done["peak_bytes"])
            if "plan" in done:
                chosen = {
                    **chosen,
                    entry.name: f"{entry.name} ran on {done['plan']}; redundancy {done['redundancy']:.3f}.",
                }
        if number == 0 and name not in RANDOM:
            note(f"{name}, round {number + 1}: {FILES}")
            command = enhance_command(folder / "full.png", folder / "out.png", "--model", path, "--overwrite")
            files.seconds.append(command.seconds)
            files.peaks.append(command.peak_bytes)
    _errors(entries, folder, SCALES[name])
    _plot(name, entries, quick)
    return "\n\n".join(
        [
            _table(name, entries, [files] if files.seconds else []),
            "\n".join(chosen.values()),
            f"![{name}](peers_{name}.png)",
        ]
    )


def _factor(contender: str, path: Path, size: tuple[int, int]) -> float:
    """How much longer the full picture takes: by tiles, or for the whole image by pixels."""
    if contender == "whole image":
        return FULL[0] * FULL[1] / (size[0] * size[1])
    if not contender.startswith("sr-tile"):
        return tiles(FULL) / tiles(size)
    if size == FULL:
        return 1.0
    with Enhancer(path, expected_pixels=FULL[0] * FULL[1]) as enhancer:
        full, part = (enhancer.plan.grid(*each) for each in (FULL, size))
        return len(full) * np.prod(full.tile) / (len(part) * np.prod(part.tile))


def _errors(entries: list[Entry], folder: Path, scale: int) -> None:
    """How far each is from the whole image in one call, in steps of 8 bits, where both had the same pixels around."""
    whole = next(entry for entry in entries if entry.name == "whole image")
    wanted = np.load(folder / "whole image.npy", mmap_mode="r")
    for entry in entries:
        height, width = (
            (own if own == other else min(own, other) - EDGE) * scale
            for own, other in zip(entry.size, whole.size, strict=True)
        )
        answer = np.load(folder / f"{entry.name}.npy", mmap_mode="r")[:height, :width]
        if entry is not whole:
            entry.errors = _gaps(answer.astype(np.float32) - wanted[:height, :width])


def _gaps(error_hwc: np.ndarray) -> tuple[float, float, float]:
    """Largest, PSNR in dB, and the largest change from one pixel to its neighbour, which is what shows as a seam."""
    steps = max(float(np.abs(np.diff(error_hwc, axis=axis)).max()) for axis in (0, 1))
    mse = float(np.mean(error_hwc.astype(np.float64) ** 2)) / 255**2
    return float(np.abs(error_hwc).max()), -10 * np.log10(max(mse, 1e-15)), steps


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
    """Median over rounds of how much longer it takes than `own` in the same round."""
    pairs = zip(entry.scaled, own.scaled, strict=False)
    return statistics.median(other / ours for other, ours in pairs)


def _table(name: str, entries: list[Entry], files: list[Entry]) -> str:
    by = {entry.name: entry for entry in entries}
    own, base = by["sr-tile"], by[BASE]
    rows = []
    for entry in [*entries, *files]:
        height, width = entry.size
        error = ["", "", ""]
        if entry.errors:
            error = [f"{entry.errors[0]:.0f}", f"{entry.errors[1]:.1f} dB", f"{entry.errors[2]:.0f}"]
        measured = f"{height * width / 1e6:.2f} MP" + ("" if entry.factor == 1 else f", x {entry.factor:.2f}")
        peak = f"{max(entry.peaks) / 2**30:.2f} GiB"
        seconds = f"{statistics.median(entry.scaled):.1f} s"
        rows.append([entry.name, seconds, f"{_ratio(base, entry):.2f} x", measured, peak, *error])
    heads = [
        "",
        "12 MP",
        f"as fast as the {BASE}",
        "measured on",
        "peak memory",
        "largest error",
        "PSNR",
        "largest seam",
    ]
    others = [entry for entry in entries if not entry.name.startswith("sr-tile") and entry.name != "whole image"]
    best = min(others, key=lambda entry: _ratio(entry, own))
    fewer = by.get("sr-tile, bf16", own)
    bounds = [
        (f"sr-tile over the {BASE}", _ratio(base, own), WANTED[name]),
        *([(f"sr-tile, bf16 over the {BASE}", _ratio(base, fewer), WANTED[name])] if fewer is not own else []),
        (f"{fewer.name} over the fastest of the others, {best.name}", _ratio(best, fewer), 1.0),
        ("our time over the whole image's, in float32", 1 / _ratio(by["whole image"], by["sr-tile, fp32"]), -1.25),
    ]
    checks = []
    for what, value, bound in bounds:
        kept = value >= bound if bound > 0 else value <= -bound
        checks.append([what, f"{value:.2f}", f">= {bound}" if bound > 0 else f"<= {-bound}", yes_no(kept)])
    return "\n\n".join([markdown(heads, rows), markdown(["", "ratio", "bound", "kept"], checks)])


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
        "the whole image in one call in float32, in steps of 8 bits; a seam is how much the error changes from one pixel to "
        "the next."
    )
    if name in RANDOM:
        intro += (
            " The weights are random, so that the errors of fewer bits say nothing, and `auto` stays with float32 where "
            "they are large; the row of bf16 is for time."
        )
    return "\n\n".join([f"## Against the usual ways: {TITLES[name]}", intro, flags(), race(name, folder, quick)])


def flags() -> str:
    """What the processor has for numbers of few bits."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = next((line.split(":")[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    known = [flag for flag in found if flag.startswith(("avx512", "avx2", "amx", "avx_vnni"))]
    return f"Flags: {' '.join(known)}."
