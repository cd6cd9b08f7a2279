"""The README's picture: a rendered scene made small, enlarged by bicubic interpolation and by the bundled model.

Run it as `python bench/picture.py models/x2.png`.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sr_tile.enhancer import Enhancer

SIDE = 480


def scene(side: int, seed: int = 3) -> Image.Image:
    """Discs over discs (dead leaves), thin lines, text: drawn four times larger and averaged down, so edges are smooth."""
    rng = np.random.default_rng(seed)
    large = 4 * side
    image = Image.new("RGB", (large, large), (232, 226, 214))
    draw = ImageDraw.Draw(image)
    for radius in sorted(rng.uniform(0.01, 0.2, 160), reverse=True):
        y, x = rng.uniform(0, 1, 2) * large
        r = radius * large / 2
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(20, 245, 3)))
    for step in range(24):
        x = large * 0.55 + step * large * 0.018
        draw.line((x, large * 0.06, x + large * 0.1, large * 0.45), fill=(20, 24, 40), width=2 + step // 2)
    draw.rectangle((0, large * 0.62, large, large), fill=(250, 248, 240))
    for line, size in enumerate((28, 22, 18, 14, 11)):
        font = ImageFont.load_default(size=size * 4)
        y = large * 0.63 + sum((28, 22, 18, 14, 11)[:line]) * 5.4
        draw.text((large * 0.02, y), "Nothing shows how it was cut. 0123", fill=(24, 22, 20), font=font)
    return image.resize((side, side), Image.Resampling.BOX)


def main() -> None:
    """Write the picture: bicubic on the left, the model on the right."""
    small = scene(SIDE).resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC)
    with Enhancer("x2") as enhancer:
        after = enhancer.enhance(small)
    before = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    both = Image.new("RGB", (2 * SIDE + 8, SIDE), "white")
    both.paste(before, (0, 0))
    both.paste(after, (SIDE + 8, 0))
    both.save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    main()
