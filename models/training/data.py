"""Training patches: photographs and rendered images, degraded once and cropped where there is something to learn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rendered import rendered_images
from resample import imresize, luma, to_uint8
from torch import Tensor

SUFFIXES = {".webp", ".png", ".jpg", ".jpeg", ".tif", ".tiff"}
COPIES = ((1.0, 0.0), (1.0, 0.8), (0.7, 0.5), (0.5, 0.0), (0.35, 0.3))
GRID = 4
BLOCK = 8


def load_photographs(folder: Path, copies: tuple[tuple[float, float], ...] = COPIES) -> list[NDArray[np.uint8]]:
    """Read every picture of a folder and make reduced copies, whose texture is denser, some of them softened.

    Thirty photographs come from few cameras and few resamplers; without softer copies the network learns that every
    edge is as sharp as theirs.

    Args:
        folder: where the pictures are.
        copies: (factor of size, sigma of a Gaussian blur) of each copy; (1.0, 0.0) is the picture itself.

    Returns:
        Pictures (H, W, 3), RGB bytes.

    Raises:
        FileNotFoundError: if the folder holds no picture.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no pictures in {folder}; expected files ending in {', '.join(sorted(SUFFIXES))}")
    images = []
    for path in paths:
        photo = np.asarray(Image.open(path).convert("RGB"))
        for factor, sigma in copies:
            height, width = (round(n * factor) for n in photo.shape[:2])
            copy = photo if factor == 1 else to_uint8(imresize(photo, height, width))
            images.append(np.asarray(Image.fromarray(copy).filter(ImageFilter.GaussianBlur(sigma))) if sigma else copy)
    return images


def texture(image_hwc: NDArray[np.uint8], patch: int) -> NDArray[np.float32]:
    """Mean gradient of the luma over the patch that begins at each GRID-th pixel: (rows, columns)."""
    y = luma(image_hwc).astype(np.float32)
    slope = np.abs(np.diff(y, axis=0, append=y[-1:])) + np.abs(np.diff(y, axis=1, append=y[:, -1:]))
    total = np.pad(slope.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    score = total[patch:, patch:] - total[:-patch, patch:] - total[patch:, :-patch] + total[:-patch, :-patch]
    return score[::GRID, ::GRID].astype(np.float32) / patch**2


@dataclass
class Bank:
    """Pictures of one kind and where to crop them.

    Attributes:
        small: network inputs before degradation, (h, w, 3) bytes each.
        large: targets, (h * scale, w * scale, 3) bytes each.
        places: (n, 3): picture, top, left in `small`.
        cumulative: (n,) cumulative probability of each place.
    """

    small: list[NDArray[np.uint8]]
    large: list[NDArray[np.uint8]]
    places: NDArray[np.int32]
    cumulative: NDArray[np.float64]

    @classmethod
    def build(cls, images: list[NDArray[np.uint8]], scale: int, patch: int, choice: int) -> Bank:
        """Shrink the pictures (bicubic, rounded to bytes) and rank every place by its texture.

        A place is drawn as often as if it had to be the most textured of `choice` random ones.
        """
        small, large, places, scores = [], [], [], []
        for image in images:
            height, width = (n // scale for n in image.shape[:2])
            if min(height, width) < patch:
                continue
            large.append(np.ascontiguousarray(image[: height * scale, : width * scale]))
            small.append(large[-1] if scale == 1 else to_uint8(imresize(large[-1], height, width)))
            score = texture(small[-1], patch)
            top, left = np.indices(score.shape, np.int32) * GRID
            picture = np.full(score.size, len(small) - 1, np.int32)
            places.append(np.stack([picture, top.ravel(), left.ravel()], axis=1))
            scores.append(score.ravel())
        score = np.concatenate(scores)
        rank = np.empty(score.size)
        rank[np.argsort(score)] = np.arange(1, score.size + 1) / score.size
        chance = rank ** (choice - 1)
        return cls(small, large, np.concatenate(places), np.cumsum(chance / chance.sum()))

    def draw(self, scale: int, patch: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A random pair of patches, turned and recoloured: (patch, patch, 3) and scale times as large."""
        index = min(int(np.searchsorted(self.cumulative, rng.random())), len(self.places) - 1)
        picture, top, left = self.places[index]
        a = self.small[picture][top : top + patch, left : left + patch]
        top, left, edge = top * scale, left * scale, patch * scale
        b = self.large[picture][top : top + edge, left : left + edge]
        turns, mirror = int(rng.integers(4)), rng.random() < 0.5
        if mirror:
            a, b = a[:, ::-1], b[:, ::-1]
        if rng.random() < 0.5:
            order = rng.permutation(3)
            a, b = a[:, :, order], b[:, :, order]
        if rng.random() < 0.2:
            a, b = 255 - a, 255 - b
        return np.rot90(a, turns), np.rot90(b, turns)


def damage(image_hwc: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Add Gaussian noise (sigma 0 to 50 of 255) or JPEG compression (quality 30 to 95), often one, sometimes both.

    Half of the noisy images without compression are rounded to bytes, as files are; the others are left as they are.

    Returns:
        The damaged image, same shape, range about [0, 255].
    """
    kind = rng.random()
    result = image_hwc.astype(np.float32)
    if kind < 0.7:
        result += rng.standard_normal(result.shape, np.float32) * np.float32(rng.uniform(0, 50))
    if 0.25 < kind < 0.7 and rng.random() < 0.5:
        result = to_uint8(result).astype(np.float32)
    if kind < 0.25 or kind >= 0.7:
        file = io.BytesIO()
        subsampling = int(rng.choice((0, 2)))
        quality = int(rng.integers(30, 96))
        Image.fromarray(to_uint8(result)).save(file, "JPEG", quality=quality, subsampling=subsampling)
        result = np.asarray(Image.open(file)).astype(np.float32)
    return result


class Patches:
    """An endless source of batches.

    Args:
        photos: folder of photographs.
        scale: enlargement; 1 for restoration of damaged images.
        patch: edge length of the network input.
        seed: seed of the rendered images.
        rendered_share: share of rendered patches.
    """

    def __init__(self, photos: Path, scale: int, patch: int, seed: int, rendered_share: float = 0.03) -> None:
        self.scale, self.patch, self.rendered_share = scale, patch, rendered_share
        self.drawn, choice = (patch, 5) if scale > 1 else (patch + BLOCK, 3)
        self.photographs = Bank.build(load_photographs(photos), scale, self.drawn, choice)
        self.rendered = Bank.build(rendered_images(36, 720, seed), scale, self.drawn, choice)

    def pair(self, rng: np.random.Generator) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """One input and its target, range [0, 255]; a damaged patch is cut out off the grid of JPEG's blocks."""
        bank = self.rendered if rng.random() < self.rendered_share else self.photographs
        small, large = bank.draw(self.scale, self.drawn, rng)
        if self.scale > 1:
            return small, large
        top, left = rng.integers(0, BLOCK, 2)
        window = slice(top, top + self.patch), slice(left, left + self.patch)
        return damage(small, rng)[window], large[window].astype(np.float32)

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A batch of inputs (count, 3, patch, patch) and targets (count, 3, patch * scale, ...), range [0, 1]."""
        pairs = [self.pair(rng) for _ in range(count)]
        inputs, targets = (torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) for side in zip(*pairs, strict=True))
        return inputs.float() / 255, targets.float() / 255
