"""The pictures of the cards and of the README: photographs made small and damaged, enlarged by bicubic and by a model.

Run it as `python bench/picture.py photo-x2 models/photo-x2.png`. The photographs are those in scikit-image's package; every
square is shown at 100 %: above by bicubic interpolation, below by the model.
"""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from skimage import data

from sr_tile.enhancer import Enhancer

SIDE = 184
GAP = 6


class Scene(NamedTuple):
    """A square of a photograph, of the size of the result, and what is done to the small photograph."""

    photograph: str
    top: int
    left: int
    noise: float
    quality: int


SCENES = (
    Scene("astronaut", 60, 130, 0, 75),  # a face
    Scene("chelsea", 60, 100, 0, 50),  # fur, an eye
    Scene("grass", 100, 100, 0, 90),  # foliage
    Scene("page", 4, 20, 0, 75),  # text
    Scene("rocket", 200, 270, 8, 75),  # night, noise
)


def small_photograph(scene: Scene, scale: int) -> Image.Image:
    """The whole photograph, reduced by bicubic interpolation and damaged."""
    pixels = getattr(data, scene.photograph)()
    image = Image.fromarray(pixels).convert("RGB")
    size = (image.width // scale, image.height // scale)
    small = image.crop((0, 0, size[0] * scale, size[1] * scale)).resize(size, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, scene.noise, (size[1], size[0], 3))
    small = Image.fromarray((np.asarray(small) + noise).round().clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=scene.quality)
    return Image.open(file).convert("RGB")


def main() -> None:
    """Write the picture."""
    model, target = sys.argv[1:]
    both = Image.new("RGB", (len(SCENES) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    with Enhancer(model) as enhancer:
        scale = enhancer.scale
        for column, scene in enumerate(SCENES):
            small = small_photograph(scene, scale)
            before = small.resize((small.width * scale, small.height * scale), Image.Resampling.BICUBIC)
            for row, image in enumerate((before, Image.fromarray(enhancer.enhance(np.asarray(small))))):
                square = image.crop((scene.left, scene.top, scene.left + SIDE, scene.top + SIDE))
                both.paste(square, (column * (SIDE + GAP), row * (SIDE + GAP)))
    both.save(Path(target), optimize=True)


if __name__ == "__main__":
    main()
