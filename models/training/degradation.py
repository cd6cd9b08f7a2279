"""Damage as photographs have it: blur, a reduction of some kind, camera noise, JPEG and WebP, in shuffled order.

The order is shuffled and each kind drawn at random as in BSRGAN (Zhang et al., "Designing a practical degradation model
for deep blind image super-resolution", ICCV 2021); milder than there, for the pictures are photographs that somebody
wants enlarged, not wrecks. Every quarter patch is clean, or the network would soften pictures that need nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from resample import imresize, luma, to_uint8

Floats = NDArray[np.float32]
RESIZERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
BAYER = np.array([[[0, 0], [0, 1]], [[0, 1], [1, 0]], [[1, 0], [0, 0]]], np.float32)  # (colour, 2, 2): R, G, B
BLOCK = 8


@dataclass(frozen=True)
class Mixture:
    """How much damage of which kind.

    Attributes:
        clean: share of pictures that are only reduced.
        blur: share that is blurred, and `blur_sigma` the largest sigma, in pixels of the large picture.
        noise: share with noise, and `noise_sigma` its largest standard deviation, of 255.
        weakness: 1 draws all deviations alike, more than 1 small ones more often.
        white: of the noisy ones, the share whose noise is white, Gaussian and independent of brightness.
        files: share that was compressed, as JPEG (`webp` of them as WebP); `twice` of the JPEG ones were so twice.
        quality: least and greatest quality.
    """

    clean: float = 0.25
    blur: float = 0.3
    blur_sigma: float = 2.0
    noise: float = 0.5
    noise_sigma: float = 15.0
    weakness: float = 1.4
    white: float = 0.5
    files: float = 0.85
    webp: float = 0.08
    twice: float = 0.2
    quality: tuple[int, int] = (30, 95)


CLEAN = Mixture(clean=1)
MIXTURES = {
    "x2": CLEAN,
    "x4": CLEAN,
    "photo-x2": Mixture(0.25, blur=0.3, files=0.9),
    "photo-x4": Mixture(0.2, blur=0.4, blur_sigma=3.0, files=0.9),
    "denoise": Mixture(
        0.15, blur=0, noise=0.72, noise_sigma=50, weakness=1, white=0.6, files=0.5, twice=0.15, quality=(30, 97)
    ),
}


def blurred(image_hwc: Floats, largest: float, rng: np.random.Generator) -> Floats:
    """Blur by a Gaussian, in half of the cases one that is longer in some direction."""
    first, second = 0.2 + (largest - 0.2) * rng.random(2) ** 1.4  # weak blur is more common
    second = first if rng.random() < 0.5 else second
    turn = rng.uniform(0, np.pi)
    radius = int(np.ceil(3 * max(first, second)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kernel = np.exp(-0.5 * (np.square(along / first) + np.square(across / second)))
    weight = torch.from_numpy((kernel / kernel.sum()).astype(np.float32))[None, None]
    channels = torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))[:, None]
    result = F.conv2d(F.pad(channels, (radius,) * 4, mode="replicate"), weight)
    return cast(Floats, result[:, 0].permute(1, 2, 0).numpy())


def reduced(image_hwc: Floats, scale: int, rng: np.random.Generator) -> Floats:
    """Reduce by an integer: bicubic in more than half of the cases, else area, bilinear or Lanczos."""
    height, width = (n // scale for n in image_hwc.shape[:2])
    if scale == 1:
        return image_hwc
    if rng.random() < 0.55:
        return imresize(image_hwc, height, width)
    resizer = RESIZERS[int(rng.integers(len(RESIZERS)))]
    planes = [Image.fromarray(image_hwc[:, :, c]).resize((width, height), resizer) for c in range(3)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def demosaiced(noise_hwc: Floats) -> Floats:
    """Correlate noise as interpolation of a Bayer mosaic does: each colour is known at some pixels, the rest is a mean.

    The result is scaled to keep the standard deviation.
    """
    height, width = noise_hwc.shape[:2]
    mask = np.tile(BAYER, (1, height // 2 + 1, width // 2 + 1))[:, :height, :width].transpose(1, 2, 0)
    padded = np.pad(noise_hwc * mask, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    corners = padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]
    weights = np.array([0.25, 0, 0.25], np.float32)
    result = padded[1:-1, 1:-1] + sides * np.array([0.5, 0.25, 0.5], np.float32) + corners * weights
    return cast(Floats, (result / np.maximum(result.std(axis=(0, 1)), 1e-3) * noise_hwc.std()).astype(np.float32))


def blotches(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Floats:
    """Noise of colour only, in blotches of two to eight pixels."""
    pitch = int(rng.integers(2, 9))
    small = rng.standard_normal((shape[0] // pitch + 2, shape[1] // pitch + 2, 3), np.float32) * np.float32(sigma)
    small -= small.mean(axis=2, keepdims=True)
    planes = [Image.fromarray(small[:, :, c]).resize((shape[1], shape[0]), Image.Resampling.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def noisy(image_hwc: Floats, mixture: Mixture, rng: np.random.Generator) -> Floats:
    """Add white noise, or a camera's: of photons and of reading, gray or coloured, demosaiced, with blotches of colour."""
    sigma = np.float32(mixture.noise_sigma * rng.random() ** mixture.weakness)
    noise = rng.standard_normal(image_hwc.shape, np.float32)
    if rng.random() < mixture.white:
        return image_hwc + noise * sigma
    if rng.random() < 0.2:
        noise[:] = noise[:, :, :1]
    elif rng.random() < 0.6:
        noise = demosaiced(noise)
    photons = np.float32(rng.uniform(0, 1))  # share of the variance that grows with brightness
    variance = (1 - photons) + photons * np.clip(image_hwc, 0, 255) / 128
    result = image_hwc + noise * sigma * np.sqrt(variance)
    if rng.random() < 0.4:
        result += blotches(image_hwc.shape, float(sigma) * rng.uniform(0.1, 0.6), rng)
    return cast(Floats, result)


def compressed(image_hwc: Floats, mixture: Mixture, rng: np.random.Generator, webp: bool = False) -> Floats:
    """Through a file and back, its grid of blocks beginning anywhere."""
    top, left = (int(n) for n in rng.integers(0, BLOCK, 2))
    image = np.pad(to_uint8(image_hwc), ((top, 0), (left, 0), (0, 0)), mode="reflect")
    quality = int(rng.integers(mixture.quality[0], mixture.quality[1] + 1))
    file = io.BytesIO()
    if webp:
        Image.fromarray(image).save(file, "WEBP", quality=quality, method=0)
    else:
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=int(rng.choice((0, 2, 2))))
    return np.asarray(Image.open(file).convert("RGB"))[top:, left:].astype(np.float32)


def degrade(image_hwc: NDArray[np.uint8], scale: int, mixture: Mixture, rng: np.random.Generator) -> Floats:
    """Reduce a picture and damage it.

    Args:
        image_hwc: (H, W, 3), multiples of `scale`.
        scale: factor of reduction.
        mixture: how much damage of which kind.
        rng: source of all chance.

    Returns:
        (H / scale, W / scale, 3), range about [0, 255]: rounded and clipped as a file is, but for half of the denoisers'
        uncompressed pictures.
    """
    image = image_hwc.astype(np.float32)
    if rng.random() < mixture.clean:
        return to_uint8(reduced(image, scale, rng)).astype(np.float32)
    webp = rng.random() < mixture.webp
    steps = ["reduce"]
    steps += ["blur"] if rng.random() < mixture.blur else []
    steps += ["noise"] if rng.random() < mixture.noise else []
    in_file = rng.random() < mixture.files
    steps += ["file"] if in_file and not webp and rng.random() < mixture.twice else []
    if rng.random() < 0.5:  # the usual course: the scene is blurred, sampled, read with noise, stored
        steps = [step for step in ("blur", "reduce", "noise", "file") if step in steps]
    else:
        rng.shuffle(steps)
    for step in steps:
        if step == "reduce":
            image = reduced(image, scale, rng)
        elif step == "blur":
            image = blurred(image, mixture.blur_sigma, rng)
        elif step == "noise":
            image = noisy(image, mixture, rng)
        else:
            image = compressed(image, mixture, rng)
    if in_file:
        return compressed(image, mixture, rng, webp)
    if scale == 1 and rng.random() < 0.5:
        return image
    return to_uint8(image).astype(np.float32)


def gray(image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture without colour: full-range luma of BT.601 in all three channels."""
    y = (luma(image_hwc) - 16) * (255 / 219)
    return np.repeat(to_uint8(y)[:, :, None], 3, axis=2)
