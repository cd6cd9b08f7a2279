"""Each precision of a model: size, PSNR on Set5 and speed against float32.

    python bench/precision.py MODEL.onnx --set5 DIR [--calibrate DIR] [--max-loss 0.2]

PSNR as in the literature: luma (BT.601) of 8-bit outputs, without a border of `scale` pixels, inputs reduced by Pillow's
antialiased bicubic interpolation. Speed is the median ratio of interleaved runs of one 256 x 256 tile on the CPU.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from common import machine
from PIL import Image

from sr_tile.export.precision import PRECISIONS, convert
from sr_tile.export.precision.compare import Runner, psnr, read_spec, speed_ratio


def pairs(folder: Path, scale: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Input (1, 3, h, w) and truth (H, W, 3) of each picture, float32, range [0, 1]."""
    found = []
    for path in sorted(folder.glob("*.png")):
        image = Image.open(path).convert("RGB")
        small = (image.width // scale, image.height // scale)
        image = image.crop((0, 0, small[0] * scale, small[1] * scale))
        reduced = np.asarray(image.resize(small, Image.Resampling.BICUBIC), np.float32)
        found.append((reduced.transpose(2, 0, 1)[None] / 255, np.asarray(image, np.float32) / 255))
    return found


def picture(output_nchw: np.ndarray) -> np.ndarray:
    """The output as 8 bits hold it, (H, W, 3), range [0, 1]."""
    return np.rint(output_nchw[0].transpose(1, 2, 0).clip(0, 1) * 255) / 255


def luma_psnr(one: np.ndarray, two: np.ndarray, border: int) -> float:
    """PSNR in dB of BT.601 luma without the border."""
    difference = (one.astype(np.float64) - two) @ np.array([65.481, 128.553, 24.966]) / 255
    return psnr(float(np.mean(difference[border:-border, border:-border] ** 2)))


def main() -> None:
    """Convert, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--set5", type=Path, required=True)
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--max-loss", type=float, default=0.2)
    arguments = parser.parse_args()
    scale = read_spec(arguments.model).scale or 1
    tests = pairs(arguments.set5, scale)
    exact = Runner(arguments.model)
    wanted = [picture(exact(small)) for small, _ in tests]
    base = statistics.fmean(luma_psnr(out, truth, scale) for out, (_, truth) in zip(wanted, tests, strict=True))
    size = arguments.model.stat().st_size
    print(machine())
    print("| precision | bytes | of fp32 | Set5 PSNR | loss | PSNR to fp32 (8 bits) | speed | still float32 |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| fp32 | {size} | 1.00 | {base:.3f} dB | | | 1.00 x | |")
    tile = np.random.default_rng(0).random((1, 3, 256, 256), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder) / f"{precision}.onnx"
            report = convert(
                arguments.model, path, precision, calibrate=arguments.calibrate, max_loss_db=arguments.max_loss
            )
            runner = Runner(path)
            outputs = [picture(runner(small)) for small, _ in tests]
            quality = statistics.fmean(
                luma_psnr(out, truth, scale) for out, (_, truth) in zip(outputs, tests, strict=True)
            )
            # Of the mean error: fp16 gives some pictures back to the last bit.
            near = psnr(statistics.fmean(float(np.mean((a - b) ** 2)) for a, b in zip(outputs, wanted, strict=True)))
            print(
                f"| {precision} | {report.bytes_after} | {report.bytes_after / size:.2f} | {quality:.3f} dB | "
                f"{base - quality:.3f} dB | {near:.1f} dB | {speed_ratio(exact, runner, tile):.2f} x | "
                f"{', '.join(report.kept_float) or 'none'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
