"""PSNR and SSIM of a network on a folder of images, beside classical methods.

Enlargers are measured as in the literature: shrunk with MATLAB's bicubic, rounded to bytes, enlarged, rounded, Y of
BT.601, a border of `scale` pixels left out. With `--damaged` the small image is damaged too, as photographs are: see
`damaged_small`. Denoisers (scale 1) are measured on RGB, on noise of fixed seeds (added to
the bytes and not rounded) and on JPEG files made by Pillow; the classical ones are told the sigma that scikit-image
estimates, as nothing tells the networks either.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from resample import imresize, luma, to_uint8
from torch import nn

DAMAGES = ("noise 5", "noise 15", "noise 25", "noise 50", "jpeg 90", "jpeg 40")
PHOTO_DAMAGES = ("none", "jpeg 90", "jpeg 75", "jpeg 50", "noise 8, jpeg 75", "blur, jpeg 75")
SCIKIT_IMAGE = ("astronaut", "chelsea", "coffee", "rocket")
Image8 = NDArray[np.uint8]
Enlarge = Callable[[Image8], Image8]


def load_images(folder: Path) -> list[tuple[str, Image8]]:
    """Name and image of every PNG in a folder; a folder called "scikit-image" means four photographs of that package."""
    if folder.name == "scikit-image" and not folder.exists():
        import skimage.data

        return [(name, np.asarray(getattr(skimage.data, name)())) for name in SCIKIT_IMAGE]
    return [(path.stem, np.asarray(Image.open(path).convert("RGB"))) for path in sorted(folder.glob("*.png"))]


def load_pairs(folder: Path, scale: int, damage: str = "none") -> list[tuple[str, Image8, Image8]]:
    """Name, shrunk and damaged image, and original (cropped to a multiple of `scale`) of every image in a folder."""
    pairs = []
    for number, (name, image) in enumerate(load_images(folder)):
        height, width = (n // scale for n in image.shape[:2])
        image = image[: height * scale, : width * scale]
        pairs.append((name, damaged_small(image, scale, damage, number), image))
    return pairs


def damaged_small(image: Image8, scale: int, damage: str, seed: int) -> Image8:
    """Shrink an image and damage it.

    Args:
        image: (H, W, 3), multiples of `scale`.
        scale: factor of reduction; 1 leaves the size.
        damage: "none" or, in this order, separated by commas: "blur" (Gaussian before the reduction, of sigma 1 at
            scale 2, of 2 at 4), "noise SIGMA" (white, rounded to bytes), "jpeg QUALITY" (Pillow's, 4:2:0).
        seed: of the noise.
    """
    steps = dict([*step.split(), ""][:2] for step in damage.split(", "))
    if "blur" in steps:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(max(scale / 2, 0.5))))
    small = to_uint8(imresize(image, image.shape[0] // scale, image.shape[1] // scale))
    if "noise" in steps:
        noise = np.random.default_rng(seed).standard_normal(small.shape, np.float32)
        small = to_uint8(small + noise * np.float32(steps["noise"]))
    if "jpeg" in steps:
        file = io.BytesIO()
        Image.fromarray(small).save(file, "JPEG", quality=int(steps["jpeg"]))
        small = np.asarray(Image.open(file))
    return small


def damaged_pairs(folder: Path, damage: str) -> list[tuple[str, Image8 | NDArray[np.float32], Image8]]:
    """Name, damaged image and original of every PNG in a folder.

    Args:
        folder: where the images are.
        damage: "noise SIGMA" or "jpeg QUALITY".
    """
    kind, strength = damage.split()
    pairs: list[tuple[str, Image8 | NDArray[np.float32], Image8]] = []
    for number, (name, image) in enumerate(load_images(folder)):
        if kind == "noise":
            noise = np.random.default_rng(number).standard_normal(image.shape, np.float32)
            pairs.append((name, image + noise * np.float32(strength), image))
        else:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=int(strength))
            pairs.append((name, np.asarray(Image.open(file)), image))
    return pairs


def psnr(result: NDArray[np.generic], truth: Image8, border: int = 0) -> float:
    """PSNR in decibels, peak 255: of luma without `border` pixels at each side, or of RGB where `border` is 0."""
    a, b = (luma(image)[border:-border, border:-border] if border else image for image in (result, truth))
    error = np.asarray(a, np.float64) - b
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def ssim(result: NDArray[np.generic], truth: Image8, border: int = 0) -> float:
    """SSIM of luma with the Gaussian window of Wang et al. 2004, without `border` pixels at each side."""
    from skimage.metrics import structural_similarity

    window = slice(border, -border or None), slice(border, -border or None)
    a, b = luma(result)[window], luma(truth)[window]
    return float(
        structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    )


def torch_runner(network: nn.Module) -> Enlarge:
    """Run a network in float32 on byte images."""
    device = next(network.parameters()).device

    def run(image: Image8) -> Image8:
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().div(255).to(device)
        with torch.inference_mode():
            return to_uint8(network(batch)[0].permute(1, 2, 0).cpu().numpy() * 255)

    return run


def onnx_runner(path: Path) -> Enlarge:
    """Run an ONNX file in float32 on byte images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(image: Image8) -> Image8:
        batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255
        return to_uint8(session.run(None, {"input": batch})[0][0].transpose(1, 2, 0) * 255)

    return run


def set_psnr(network: nn.Module, folder: Path, task: str, scale: int) -> list[float]:
    """Mean PSNR of a network over a folder: one figure, or one for each kind of damage."""
    run = torch_runner(network)
    if scale > 1:
        kinds = PHOTO_DAMAGES if task.startswith("photo-") else PHOTO_DAMAGES[:1]
        sets = [[pair[1:] for pair in load_pairs(folder, scale, damage)] for damage in kinds]
    else:
        sets = [[pair[1:] for pair in damaged_pairs(folder, damage)] for damage in DAMAGES]
    border = scale if scale > 1 else 0
    return [float(np.mean([psnr(run(bad), truth, border) for bad, truth in pairs])) for pairs in sets]


def table(runners: dict[str, Enlarge], folder: Path, scale: int, damaged: bool = False) -> str:
    """A Markdown table of PSNR / SSIM of each method: a row per image, or per kind of damage, and their mean."""
    by_image = scale > 1 and not damaged
    lines = [f"| {'image' if by_image else 'damage'} | {' | '.join(runners)} |", "|---" * (len(runners) + 1) + "|"]
    if by_image:
        rows = {name: [(small, truth)] for name, small, truth in load_pairs(folder, scale)}
    elif scale > 1:
        rows = {damage: [pair[1:] for pair in load_pairs(folder, scale, damage)] for damage in PHOTO_DAMAGES}
    else:
        rows = {damage: [pair[1:] for pair in damaged_pairs(folder, damage)] for damage in DAMAGES}
    border = scale if scale > 1 else 0
    figures = []
    for name, pairs in rows.items():
        scores = [
            [(psnr(r := run(bad), truth, border), ssim(r, truth, border)) for bad, truth in pairs]
            for run in runners.values()
        ]
        figures.append(np.mean(scores, axis=1))
        lines.append(f"| {name} | " + " | ".join(f"{p:.2f} / {s:.4f}" for p, s in figures[-1]) + " |")
    means = np.mean(figures, axis=0)
    lines.append("| **mean** | " + " | ".join(f"{p:.2f} / {s:.4f}" for p, s in means) + " |")
    return "\n".join(lines)


def classical(scale: int) -> dict[str, Enlarge]:
    """The methods to compare with: bicubic and Lanczos, or the damaged image itself and non-local means."""
    if scale == 1:
        from skimage.restoration import denoise_nl_means, estimate_sigma

        def non_local_means(image: Image8) -> Image8:
            sigma = float(np.mean(estimate_sigma(image, channel_axis=-1)))
            return to_uint8(
                denoise_nl_means(
                    image.astype(np.float32),
                    h=0.8 * sigma + 0.01,
                    sigma=sigma,
                    patch_size=5,
                    patch_distance=6,
                    channel_axis=-1,
                )
            )

        methods = {"input": lambda image: image, "non-local means": non_local_means}
        if importlib.util.find_spec("bm3d"):
            from bm3d import bm3d_rgb

            def block_matching(image: Image8) -> Image8:
                sigma = float(np.mean(estimate_sigma(image, channel_axis=-1)))
                return to_uint8(bm3d_rgb(image.astype(np.float64) / 255, max(sigma, 0.1) / 255) * 255)

            methods["BM3D"] = block_matching
        return methods

    def bicubic(image: Image8) -> Image8:
        return to_uint8(imresize(image, image.shape[0] * scale, image.shape[1] * scale))

    def lanczos(image: Image8) -> Image8:
        size = (image.shape[1] * scale, image.shape[0] * scale)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))

    return {"bicubic": bicubic, "Lanczos": lanczos}


def main() -> None:
    """Print the table of one or more ONNX networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", help="ONNX files")
    parser.add_argument("--scale", type=int, required=True, help="enlargement; 1 for denoisers")
    parser.add_argument("--validation", type=Path, required=True, help='folder of PNG images, or "scikit-image"')
    parser.add_argument("--damaged", action="store_true", help="damage the small images as photographs are damaged")
    options = parser.parse_args()
    runners = classical(options.scale) | {path.stem: onnx_runner(path) for path in options.models}
    print(table(runners, options.validation, options.scale, options.damaged))


if __name__ == "__main__":
    main()
