"""Memory and time of a giant image: a 200-megapixel PNG through a x2 model into a tiled BigTIFF of 800 megapixels.

    python bench/large.py [--megapixels 200] [--model tiny] [--mem-limit 1.5GiB]

The command line runs as a process of its own, whose peak resident memory is what is reported.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, photograph, tiny_model

from sr_tile.images import ImageReader


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=200.0)
    parser.add_argument(
        "--model", default="tiny", help="`tiny` is one convolution; else as for `sr-tile enhance --model`"
    )
    parser.add_argument("--mem-limit", default=None)
    arguments = parser.parse_args()
    height = round((arguments.megapixels * 1e6 / 2) ** 0.5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = photograph(folder / "in.png", height, 2 * height)
        model = tiny_model(folder / "tiny.onnx") if arguments.model == "tiny" else arguments.model
        command = [
            sys.executable,
            "-m",
            "sr_tile",
            "enhance",
            str(source),
            str(folder / "out.tif"),
            "--model",
            str(model),
        ]
        command += [
            "--stats",
            str(folder / "stats.json"),
            *(["--mem-limit", arguments.mem_limit] if arguments.mem_limit else []),
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        with ImageReader(folder / "out.tif") as reader:
            size = f"{reader.info.width} x {reader.info.height}"
        stats = json.loads((folder / "stats.json").read_text())
        print(machine())
        print(
            f"{2 * height} x {height} -> {size}: {seconds:.0f} s, peak {peak:.2f} GiB, tile {stats['tile']}, "
            f"redundancy {stats['redundancy']:.3f}, bottleneck {stats['bottleneck']}"
        )


if __name__ == "__main__":
    main()
