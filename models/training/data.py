"""Training patches: photographs and rendered images, cropped where there is something to learn, then degraded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from degradation import MIXTURES, degrade, gray
from numpy.typing import NDArray
from PIL import Image
from rendered import rendered_images
from resample import luma
from torch import Tensor

GRID = 16
MARGIN = 8  # pixels of the small picture that are degraded around the patch and then left away: filters' borders
LEAST_FACTOR = 0.3
KERNELS = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def texture(image_hwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean gradient of the luma in each block of GRID pixels: (rows, columns)."""
    rows, columns = (n // GRID for n in image_hwc.shape[:2])
    y = luma(image_hwc[: rows * GRID, : columns * GRID]).astype(np.float32)
    slope = np.abs(np.diff(y, axis=0, append=y[-1:])) + np.abs(np.diff(y, axis=1, append=y[:, -1:]))
    return slope.reshape(rows, GRID, columns, GRID).mean(axis=(1, 3)).astype(np.float32)


@dataclass
class Pictures:
    """Pictures of one kind and how much there is to see where.

    Attributes:
        images: (H, W, 3) bytes each, perhaps mapped from files.
        slopes: texture of each, summed from the top left: (rows + 1, columns + 1).
        cumulative: (n,) cumulative probability of each picture, which grows with the root of its area.
    """

    images: list[NDArray[np.uint8]]
    slopes: list[NDArray[np.float64]]
    cumulative: NDArray[np.float64]

    @classmethod
    def build(cls, images: list[NDArray[np.uint8]]) -> Pictures:
        """Rank the places of every picture."""
        slopes = [np.pad(texture(i).cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0))) for i in images]
        chance = np.sqrt([image.shape[0] * image.shape[1] for image in images])
        return cls(images, slopes, np.cumsum(chance / chance.sum()))

    def draw(self, edge: int, choice: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A random square, the most textured of `choice`, reduced, turned and recoloured.

        Most pictures that people enlarge show a whole scene in few pixels: their edges are dense and sharp, while a
        photograph at 100 % is mostly soft. So three quarters are reduced, by kernels that vary as sharpness does.
        """
        index = min(int(np.searchsorted(self.cumulative, rng.random())), len(self.images) - 1)
        image, slope = self.images[index], self.slopes[index]
        factor = 1.0 if rng.random() < 0.25 else LEAST_FACTOR ** rng.random()
        taken = min(round(edge / factor), *image.shape[:2])
        places = rng.integers(0, [[image.shape[0] - taken + 1, image.shape[1] - taken + 1]], (choice, 2))
        first, last = places // GRID, np.maximum((places + taken) // GRID, places // GRID + 1)
        last = np.minimum(last, np.array(slope.shape) - 1)
        (y0, x0), (y1, x1) = first.T, last.T
        top, left = places[np.argmax(slope[y1, x1] - slope[y0, x1] - slope[y1, x0] + slope[y0, x0])]
        patch = image[top : top + taken, left : left + taken]
        if taken != edge:
            kernel = KERNELS[int(rng.integers(len(KERNELS)))]
            patch = np.asarray(Image.fromarray(np.ascontiguousarray(patch)).resize((edge, edge), kernel))
        turns, mirror = int(rng.integers(4)), rng.random() < 0.5
        patch = np.rot90(patch[:, ::-1] if mirror else patch, turns)
        kind = rng.random()
        if kind < 0.2:
            patch = patch[:, :, rng.permutation(3)]
        elif kind < 0.3:
            patch = 255 - patch
        elif kind < 0.42:
            patch = gray(patch)
        return np.ascontiguousarray(patch)


def load_photographs(folder: Path) -> Pictures:
    """Map the arrays that `prepare.py` wrote.

    Raises:
        FileNotFoundError: if the folder holds none.
    """
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise FileNotFoundError(f"no photographs (*.npy) in {folder}; models/training/prepare.py writes them")
    return Pictures.build([np.load(path, mmap_mode="r") for path in paths])


class Patches:
    """An endless source of batches.

    Args:
        photos: folder of prepared photographs.
        task: name of the network, which decides about damage.
        scale: enlargement; 1 for restoration.
        patch: edge length of the network input.
        seed: seed of the rendered images.
        rendered_share: share of rendered patches.
    """

    def __init__(
        self, photos: Path, task: str, scale: int, patch: int, seed: int, rendered_share: float = 0.05
    ) -> None:
        self.scale, self.patch, self.rendered_share = scale, patch, rendered_share
        self.mixture, self.choice = MIXTURES[task], 5 if scale > 1 else 3
        self.photographs = load_photographs(photos)
        self.rendered = Pictures.build(rendered_images(24, 720, seed))

    def pair(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One input and its target, range [0, 255]."""
        pictures = self.rendered if rng.random() < self.rendered_share else self.photographs
        large = pictures.draw((self.patch + 2 * MARGIN) * self.scale, self.choice, rng)
        small = degrade(large, self.scale, self.mixture, rng)
        inner = slice(MARGIN, MARGIN + self.patch)
        outer = slice(MARGIN * self.scale, (MARGIN + self.patch) * self.scale)
        return small[inner, inner], large[outer, outer]

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A batch of inputs (count, 3, patch, patch) and targets (count, 3, patch * scale, ...), range [0, 1]."""
        pairs = [self.pair(rng) for _ in range(count)]
        inputs, targets = (torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) for side in zip(*pairs, strict=True))
        return inputs.float() / 255, targets.float() / 255
