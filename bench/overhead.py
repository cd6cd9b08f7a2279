"""What the pipeline adds to the network: `enhance_file` against the bare session on the same batches.

    python bench/overhead.py [--megapixels 12] [--repeat 3] [--model x2]

Both run in turn in one process; the ratio of each pair is printed, and their median. The file run reads and writes PNG.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from common import machine, photograph

from sr_tile.enhancer import Enhancer
from sr_tile.images import ImageReader
from sr_tile.pipeline.tile_batches import BatchBuilder


def batches_of(enhancer: Enhancer, path: Path) -> list[np.ndarray]:
    """The batches that `enhance_file` runs, made beforehand."""
    with ImageReader(path) as reader:
        pixels = reader.read_rows(reader.info.height)
    grid = enhancer.plan.grid(*pixels.shape[:2])
    builder: BatchBuilder[None] = BatchBuilder(enhancer.plan.batch)
    batches = []
    for _, _, outer in grid.tiles():
        tile = pixels[outer.slices].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        batches += builder.add(None, np.ascontiguousarray(tile))
    return [batch.pixels_nchw for batch in batches + builder.flush()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="x2")
    arguments = parser.parse_args()
    height = round((arguments.megapixels * 1e6 * 3 / 4) ** 0.5)
    with tempfile.TemporaryDirectory() as folder, Enhancer(arguments.model, warmup="random") as enhancer:
        source = photograph(Path(folder) / "in.png", height, height * 4 // 3)
        batches = batches_of(enhancer, source)
        ratios = []
        for number in range(arguments.repeat):
            start = time.perf_counter()
            for batch in batches:
                enhancer.engine.run(batch)
            middle = time.perf_counter()
            enhancer.enhance_file(source, Path(folder) / "out.png", overwrite=True)
            end = time.perf_counter()
            ratios.append((end - middle) / (middle - start))
            print(
                f"{number + 1}: session {middle - start:.2f} s, enhance {end - middle:.2f} s, {ratios[-1]:.3f} x",
                flush=True,
            )
        print(machine())
        plan = enhancer.plan
        print(
            f"tile {plan.tile[0]}, batch {plan.batch}, overlap {plan.overlap}; median {statistics.median(ratios):.3f} x"
        )


if __name__ == "__main__":
    main()
