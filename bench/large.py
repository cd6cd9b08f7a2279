"""Memory and time of a giant image: a 200-megapixel PNG through a x2 model into a tiled BigTIFF of 800 megapixels.

    python bench/large.py [--megapixels 200] [--model tiny] [--mem-limit 1.5GiB]

The command line runs as a process of its own, whose peak resident memory is what is reported.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from common import CommandRun, enhance_command, machine, markdown, note, photograph, tiny_model, yes_no

SMALL, LARGE = 12, 200
BOUND = 1.1


def run(megapixels: float, model: str, folder: Path, mem_limit: str | None = None) -> CommandRun:
    """Enhance a picture of 1 : 2 into a TIFF; `tiny` is a model of one convolution."""
    height = round((megapixels * 1e6 / 2) ** 0.5)
    source = folder / f"in-{megapixels:g}.png"
    if not source.exists():
        photograph(source, height, 2 * height)
    path = tiny_model(folder / "tiny.onnx") if model == "tiny" else model
    limit = ["--mem-limit", mem_limit] if mem_limit else []
    return enhance_command(source, folder / "out.tif", "--model", path, "--overwrite", *limit)


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md: time per megapixel must not grow, nor memory by more than the width."""
    text = []
    for model in ("tiny",) if quick else ("tiny", "x2"):
        ratios, rows = [], []
        for number in range(1 if quick else 2):
            note(f"linear cost, {model}: round {number + 1}")
            # The small picture before and after the large one, so that what else the machine does meets both.
            small, large, again = (run(size, model, folder) for size in (SMALL, LARGE, SMALL))
            ratios.append(large.rate / statistics.mean([small.rate, again.rate]))
            for size, done in ((SMALL, small), (LARGE, large), (SMALL, again)):
                peak = f"{done.peak_bytes / 2**30:.2f} GiB"
                rows.append(
                    [f"{size} MP", f"{done.seconds:.1f} s", f"{done.rate:.3f} s", peak, done.stats["bottleneck"]]
                )
        ratio = statistics.median(ratios)
        table = markdown(["image", "time", "per megapixel", "peak memory", "bottleneck"], rows)
        name = "a model of one convolution (the pipeline alone)" if model == "tiny" else f"`{model}`"
        text.append(
            f"PNG to TIFF through {name}:\n\n{table}\n\nPer megapixel, {LARGE} MP over {SMALL} MP: {ratio:.2f}, at most "
            f"{BOUND}: {yes_no(ratio <= BOUND)}."
        )
    return "\n\n".join(["## Linear cost", *text])


def main() -> None:
    """Measure one picture and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=200.0)
    parser.add_argument(
        "--model", default="tiny", help="`tiny` is one convolution; else as for `sr-tile enhance --model`"
    )
    parser.add_argument("--mem-limit", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        done = run(arguments.megapixels, arguments.model, Path(name), arguments.mem_limit)
    print(machine())
    print(
        f"{arguments.megapixels:g} megapixels: {done.seconds:.0f} s, peak {done.peak_bytes / 2**30:.2f} GiB, "
        f"tile {done.stats['tile']}, redundancy {done.stats['redundancy']:.3f}, bottleneck {done.stats['bottleneck']}"
    )


if __name__ == "__main__":
    main()
