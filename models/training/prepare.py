"""Prepare training photographs: reduce each until it is sharp at 100 %, and note where it came from.

`python models/training/prepare.py LIST TARGET`: LIST is tab-separated lines of path, source, licence; `TARGET/*.npy` are
the photographs as arrays that training maps into memory, `TARGET/SOURCES.tsv` says source, licence and sizes. What is
already prepared is left as it is, so that photographs can be added later.

A photograph straight from a camera, or enlarged for a wallpaper, is soft at 100 %, and a network that learns from it
learns softness. Measured is the finest octave of luma beside the next coarser one, where there is texture: of a natural
scene both hold about the same energy (Field 1987), of a soft one the finest holds much less.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHARP = 0.5
NOISY = 2.0
WHITE = 1.4
FACTORS = (1.0, 0.75, 0.6, 0.5, 0.4, 0.3, 0.25)
LARGEST_EDGE = 2400
SMALLEST_EDGE = 380
BLOCK = 32


def octave(luma: Image.Image) -> tuple[NDArray[np.float32], Image.Image]:
    """The finest octave of an image of kind "F", and the image reduced by two."""
    half = luma.resize((luma.width // 2, luma.height // 2), Image.Resampling.BICUBIC)
    return np.asarray(luma) - np.asarray(half.resize(luma.size, Image.Resampling.BICUBIC)), half


def block_deviation(octave_hw: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Root mean square of every block: (rows, columns)."""
    rows, columns = (n // block for n in octave_hw.shape)
    blocks = octave_hw[: rows * block, : columns * block].reshape(rows, block, columns, block)
    return np.sqrt(np.square(blocks).mean(axis=(1, 3)))


def sharpness(image: Image.Image) -> tuple[float, float]:
    """Finest octave over the next in the most textured fifth of the blocks, and the noise of the flattest blocks.

    White noise is twice as strong in the finest octave as in the next, texture is not: a meadow has no flat blocks.
    """
    luma = image.convert("L").convert("F")
    luma = luma.crop((0, 0, luma.width // 4 * 4, luma.height // 4 * 4))
    finest, half = octave(luma)
    next_one, _ = octave(half)
    fine, coarse = block_deviation(finest, BLOCK * 2), block_deviation(next_one, BLOCK)
    textured = coarse >= np.quantile(coarse, 0.8)
    flat = fine <= np.quantile(fine, 0.1)
    white = float(np.median(fine[flat] / np.maximum(coarse[flat], 0.1))) > WHITE
    noise = float(np.median(fine[flat])) if white else 0.0
    return float(np.median(fine[textured] / np.maximum(coarse[textured], 0.1))), noise


def sharpened(image: Image.Image) -> tuple[Image.Image, float, float, float] | None:
    """The photograph at the largest size at which it is sharp and free of noise, its factor, sharpness and noise.

    None where it would become too small to be of use.
    """
    compressed = image.format == "JPEG"
    image = image.convert("RGB")
    limit = min(1.0, LARGEST_EDGE / max(image.size))
    for step in FACTORS:
        factor = min(limit, 0.5 if compressed and max(image.size) > 2000 else 1.0) * step
        size = (round(image.width * factor), round(image.height * factor))
        if min(size) < SMALLEST_EDGE:
            return None
        smaller = image if factor == 1 else image.resize(size, Image.Resampling.BICUBIC)
        ratio, noise = sharpness(smaller)
        if ratio >= SHARP and noise <= NOISY:
            return smaller, factor, ratio, noise
    return None


def main() -> None:
    """Prepare what the list names and is not prepared yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path, help="lines of path, source, licence, separated by tabs")
    parser.add_argument("target", type=Path, help="folder to write to")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    options.target.mkdir(parents=True, exist_ok=True)
    sources = options.target / "SOURCES.tsv"
    with options.list.open(newline="") as lines, sources.open("a", newline="") as written:
        known = {line.split("\t")[1] for line in sources.read_text().splitlines()}
        for path, source, licence in csv.reader(lines, delimiter="\t"):
            if source in known:
                continue
            with Image.open(path) as image:
                original = f"{image.width}x{image.height}"
                result = sharpened(image)
            if result is None:
                print(f"soft or small: {source}", flush=True)
                continue
            smaller, factor, ratio, noise = result
            name = "".join(c if c.isalnum() else "-" for c in source.lower())[-80:]
            aside = options.target / f"{name}.tmp"
            with aside.open("wb") as file:
                np.save(file, np.asarray(smaller))
            aside.replace(options.target / f"{name}.npy")
            row = [name, source, licence, original, f"{smaller.width}x{smaller.height}", f"{ratio:.2f}", f"{noise:.1f}"]
            written.write("\t".join(row) + "\n")
            written.flush()
            print(*row[1:], f"x {factor:.2f}", flush=True)


if __name__ == "__main__":
    main()
