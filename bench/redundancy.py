"""Pixels computed over pixels of the image, at default settings, for common sizes; nothing is run but the planner."""

from pathlib import Path

from common import markdown, yes_no

from sr_tile import Enhancer
from sr_tile.models import zoo

SIZES = {
    "0.3 MP, 480 x 640": (480, 640),
    "1 MP, 1024 x 1024": (1024, 1024),
    "2 MP, 1080 x 1920": (1080, 1920),
    "8 MP, 2160 x 3840": (2160, 3840),
    "12 MP, 3000 x 4000": (3000, 4000),
    "24 MP, 4000 x 6000": (4000, 6000),
    "45 MP, 5504 x 8256": (5504, 8256),
    "200 MP, 10000 x 20000": (10000, 20000),
}
BOUND_AT, BOUND = "12 MP, 3000 x 4000", 1.15


def plain_loop(height: int, width: int, tile: int = 256, overlap: int = 64) -> float:
    """What a loop over tiles of 256 that advance by 192 computes."""
    count = [len(range(0, max(0, side - tile), tile - overlap)) + 1 for side in (height, width)]
    return count[0] * count[1] * tile**2 / (height * width)


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md."""
    rows = {name: [name, f"{plain_loop(*size):.3f}"] for name, size in SIZES.items()}
    models = list(zoo.bundled())
    kept = []
    for model in models:
        with Enhancer(model, expected_pixels=3000 * 4000) as enhancer:  # for which the command line may measure first
            for name, size in SIZES.items():
                redundancy = enhancer.plan.grid(*size).redundancy
                rows[name].append(f"{redundancy:.3f}")
                kept += [redundancy <= BOUND] if name == BOUND_AT else []
    table = markdown(["image", "plain 256/64 loop", *models], rows.values())
    return f"## Redundancy at default settings\n\n{table}\n\nAt most {BOUND} for 12 MP: {yes_no(all(kept))}."
