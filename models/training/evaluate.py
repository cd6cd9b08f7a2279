"""PSNR and SSIM of a network on a folder of images, beside classical methods.

Enlargers are measured as in the literature: shrunk with MATLAB's bicubic, rounded to bytes, enlarged, rounded, Y of
BT.601, a border of `scale` pixels left out. Denoisers (scale 1) are measured on RGB, on noise of fixed seeds (added to
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
from PIL import Image
from resample import imresize, luma, to_uint8
from torch import nn

DAMAGES = ("noise 15", "noise 25", "noise 50", "jpeg 40")
Image8 = NDArray[np.uint8]
Enlarge = Callable[[Image8], Image8]


def load_pairs(folder: Path, scale: int) -> list[tuple[str, Image8, Image8]]:
    """Name, shrunk image and original (cropped to a multiple of `scale`) of every PNG in a folder."""
    pairs = []
    for path in sorted(folder.glob("*.png")):
        image = np.asarray(Image.open(path).convert("RGB"))
        height, width = (n // scale for n in image.shape[:2])
        image = image[: height * scale, : width * scale]
        pairs.append((path.stem, to_uint8(imresize(image, height, width)), image))
    return pairs


def damaged_pairs(folder: Path, damage: str) -> list[tuple[str, Image8 | NDArray[np.float32], Image8]]:
    """Name, damaged image and original of every PNG in a folder.

    Args:
        folder: where the images are.
        damage: "noise SIGMA" or "jpeg QUALITY".
    """
    kind, strength = damage.split()
    pairs: list[tuple[str, Image8 | NDArray[np.float32], Image8]] = []
    for number, path in enumerate(sorted(folder.glob("*.png"))):
        image = np.asarray(Image.open(path).convert("RGB"))
        if kind == "noise":
            noise = np.random.default_rng(number).standard_normal(image.shape, np.float32)
            pairs.append((path.stem, image + noise * np.float32(strength), image))
        else:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=int(strength))
            pairs.append((path.stem, np.asarray(Image.open(file)), image))
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


def set_psnr(network: nn.Module, folder: Path, scale: int) -> float:
    """Mean PSNR of a network over a folder; of a denoiser over DAMAGES too."""
    run = torch_runner(network)
    if scale > 1:
        return float(np.mean([psnr(run(small), truth, scale) for _, small, truth in load_pairs(folder, scale)]))
    return float(
        np.mean([psnr(run(bad), truth) for damage in DAMAGES for _, bad, truth in damaged_pairs(folder, damage)])
    )


def table(runners: dict[str, Enlarge], folder: Path, scale: int) -> str:
    """A Markdown table of PSNR / SSIM of each method: a row per image, or per kind of damage, and their mean."""
    lines = [f"| {'image' if scale > 1 else 'damage'} | {' | '.join(runners)} |", "|---" * (len(runners) + 1) + "|"]
    if scale > 1:
        rows = {name: [(small, truth)] for name, small, truth in load_pairs(folder, scale)}
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
    parser.add_argument("--validation", type=Path, required=True, help="folder of PNG images")
    options = parser.parse_args()
    runners = classical(options.scale) | {path.stem: onnx_runner(path) for path in options.models}
    print(table(runners, options.validation, options.scale))


if __name__ == "__main__":
    main()
