"""How long the engine waits over a folder of 50 mixed pictures: sizes, formats, gray and alpha."""

from pathlib import Path

import numpy as np
from common import enhance_command, yes_no
from PIL import Image

COUNT, BOUND = 50, 0.03
FORMATS = ("png", "jpg", "tif", "webp", "png", "jpg")


def write_pictures(folder: Path, megapixels: float) -> float:
    """Crops of scikit-image's photographs, resized; returns their megapixels.

    Args:
        folder: it is made.
        megapixels: of one picture, on average.
    """
    from skimage import data

    folder.mkdir()
    photographs = [Image.fromarray(make()) for make in (data.astronaut, data.coffee, data.chelsea, data.rocket)]
    rng = np.random.default_rng(0)
    total = 0.0
    for number in range(COUNT):
        picture = photographs[number % len(photographs)]
        pixels = megapixels * 1e6 * rng.choice([0.25, 0.5, 1.0, 2.25])
        shape = rng.uniform(0.6, 1.6)
        width, height = round((pixels * shape) ** 0.5), round((pixels / shape) ** 0.5)
        left, top = rng.integers(0, picture.width // 4), rng.integers(0, picture.height // 4)
        picture = picture.crop((left, top, picture.width - left, picture.height - top)).resize((width, height))
        suffix = FORMATS[number % len(FORMATS)]
        if number % 10 == 4:
            picture = picture.convert("L")
        elif number % 10 == 6 and suffix != "jpg":
            picture.putalpha(picture.convert("L"))
        picture.save(folder / f"{number:02}.{suffix}")
        total += width * height / 1e6
    return total


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md."""
    total = write_pictures(folder / "in", 0.3 if quick else 1.0)
    run = enhance_command(folder / "in", folder / "out")
    idle = run.stats["engine_idle"]
    peak = f"{run.peak_bytes / 2**30:.2f} GiB"
    return (
        f"## A folder of {COUNT} mixed pictures\n\n"
        f"{total:.1f} megapixels of PNG, JPEG, TIFF and WebP, some gray, some with alpha, through `x2`: "
        f"{run.seconds:.0f} s, peak memory {peak}. Bottleneck: {run.stats['bottleneck']}.\n\n"
        f"Engine idle {idle:.1%}, at most {BOUND:.0%}: {yes_no(idle <= BOUND)}."
    )
