"""A chain of two networks against one after the other through files: processor time and wall time as ratios, and memory.

    python bench/chain.py [--rounds 2] [--large]

On 4 megapixels (scikit-image's astronaut, repeated), `denoise` then `clean-x2` in float32, interleaved; with `--large` also
the peak memory of the chain over 40 megapixels.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data


def enhance(source: Path, target: Path, model: str, *options: str) -> tuple[float, float, int]:
    """Processor seconds, wall seconds, and peak MiB of one command."""
    common = ["--device", "cpu", "--precision", "fp32", "--overwrite", "--quiet"]
    start = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "sr_tile",
        "enhance",
        str(source),
        str(target),
        "--model",
        model,
        *common,
        *options,
    ]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss // 1024


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(np.tile(data.astronaut(), (4, 4, 1))).save(folder / "in.png")
        tiles = ("--tile-size", "384")
        for _ in range(arguments.rounds):
            first = enhance(folder / "in.png", folder / "a.png", "denoise", *tiles)
            second = enhance(folder / "a.png", folder / "b.png", "clean-x2", *tiles)
            chain = enhance(folder / "in.png", folder / "c.png", "denoise,clean-x2", *tiles)
            processor, wall = (chain[kind] / (first[kind] + second[kind]) for kind in (0, 1))
            print(f"chain over the sum of both: processor {processor:.3f}, wall {wall:.3f}, {chain[2]} MiB", flush=True)
        if arguments.large:
            Image.fromarray(np.tile(data.astronaut(), (13, 12, 1))).save(folder / "in.png")
            tiles = ("--tile-size", "256", "--batch-size", "1")
            found = enhance(folder / "in.png", folder / "c.png", "denoise,clean-x2", *tiles)
            print(f"chain over 41 megapixels: {found[1]:.0f} s, {found[2]} MiB")


if __name__ == "__main__":
    main()
