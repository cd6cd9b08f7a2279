"""Pictures to calibrate a conversion with, and others to judge it by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_tile.errors import ArgumentError, ImageError
from sr_tile.images import READABLE_SUFFIXES
from sr_tile.models.spec import ModelSpec
from sr_tile.models.synthetic_images import scenes
from sr_tile.tiling.blending import largest_value, to_range
from sr_tile.tiling.grid import round_up

_SIDE = 128
_CALIBRATION, _JUDGEMENT = 15, 10


@dataclass(frozen=True)
class Pictures:
    """Inputs of a model, with the truth where it is known.

    Attributes:
        inputs: each (batch, channels, height, width), float32, in the model's range of values.
        truths: what the model should make of each, (batch, channels, height * scale, width * scale), range [0, 1]; None
            where it restores, for the damage that it was trained to undo is not known.
        value_range: the model's values of black and white.
    """

    inputs: tuple[np.ndarray, ...]
    truths: tuple[np.ndarray | None, ...]
    value_range: tuple[float, float]


def pictures_for(spec: ModelSpec, folder: Path | None) -> tuple[Pictures, Pictures]:
    """Pictures to calibrate with, and others to judge by.

    Args:
        spec: of the model, the scale known; where it enlarges, inputs are reduced by antialiased bicubic interpolation.
        folder: of images; every third tile is kept for judging. None takes rendered scenes.

    Raises:
        ArgumentError: the folder has no images.
        ImageError: an image cannot be read.
    """
    scale = spec.scale or 1
    height, width = spec.fixed_tile or (round_up(_SIDE, spec.multiple or 1),) * 2
    if folder is None:
        side = max(height, width) * scale
        drawn = [scenes(_CALIBRATION, side, 0), scenes(_JUDGEMENT, side, 1)]
        if scale == 1:
            drawn = [[_noisy(picture, index) for index, picture in enumerate(part)] for part in drawn]
    else:
        tiles = _tiles(folder, height * scale, width * scale)
        drawn = [[tile for index, tile in enumerate(tiles) if index % 3 != 2], tiles[2::3]]
    first, second = (
        _as_inputs([picture[: height * scale, : width * scale] for picture in part], spec, (height, width))
        for part in drawn
    )
    return first, second


def _noisy(picture: np.ndarray, index: int) -> np.ndarray:
    """Noise from none to strong, as the inputs of a network that restores have: clean ones would make ranges too narrow."""
    sigma = (0, 10, 25, 50)[index % 4] / np.float32(255)
    noise = np.random.default_rng(index).standard_normal(picture.shape, np.float32)
    return (picture + sigma * noise).clip(0, 1)


def _as_inputs(pictures: list[np.ndarray], spec: ModelSpec, size: tuple[int, int]) -> Pictures:
    inputs: list[np.ndarray] = []
    truths: list[np.ndarray | None] = []
    for picture in pictures:
        if spec.channels == 1:
            picture = picture @ np.array([[0.299], [0.587], [0.114]], np.float32)
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
        small = planes if spec.scale in (None, 1) else np.stack([_reduce(plane, size) for plane in planes])
        batch = np.repeat(small[None], spec.fixed_batch or 1, axis=0)
        inputs.append(to_range(batch.astype(np.float32), spec.value_range))
        truths.append(None if spec.scale in (None, 1) else np.repeat(planes[None], len(batch), axis=0))
    return Pictures(tuple(inputs), tuple(truths), spec.value_range)


def _reduce(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic interpolation to (height, width), rounded to 8 bits as the inputs of real use are."""
    from PIL import Image

    small = Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.rint(np.asarray(small).clip(0, 1) * 255) / np.float32(255)


def _tiles(folder: Path, height: int, width: int, most: int = 60) -> list[np.ndarray]:
    """Tiles from the middle and the corners of a folder's images, mirrored where an image is smaller.

    Returns:
        At least three, each (height, width, 3), float32, range [0, 1].
    """
    from sr_tile.images import ImageReader

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READABLE_SUFFIXES)
    if not paths:
        raise ArgumentError(
            f"folder {folder}: holds no images to calibrate with ({', '.join(sorted(READABLE_SUFFIXES))})"
        )
    paths = paths[:: -(-len(paths) // most)]
    each = -(-3 // len(paths)) if len(paths) > 12 else 5
    found = []
    for path in paths:
        try:
            with ImageReader(path) as reader:
                pixels = reader.read_rows(reader.info.height)
        except ImageError as error:
            raise ImageError(f"{error}; take it out of {folder}") from error
        pixels = pixels / np.float32(largest_value(pixels.dtype))
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
        missing = [(0, max(0, wanted - length)) for wanted, length in zip((height, width), pixels.shape, strict=False)]
        pixels = np.pad(pixels, [*missing, (0, 0)], mode="symmetric").astype(np.float32)
        down, right = pixels.shape[0] - height, pixels.shape[1] - width
        corners = [(down // 2, right // 2), (0, 0), (down, right), (0, right), (down, 0)]
        found += [pixels[y : y + height, x : x + width] for y, x in corners[:each]]
    return found
