"""Each way to run a network over a picture: all take and give the same arrays.

A contender is made from (network, path of the ONNX file) and maps a picture (H, W, 3), uint8 or float32 of range [0, 1],
to (H * scale, W * scale, 3) of the same number type.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from peers.networks import SCALES, in_ncnn, in_torch

TILE, OVERLAP = 256, 64
WORK = 12_000_000  # pixels of the picture that all figures are for
Contender = Callable[[np.ndarray], np.ndarray]
Call = Callable[[np.ndarray], np.ndarray]


def ours(name: str, path: Path, size: tuple[int, int], precision: str = "auto") -> Contender:
    """The `Enhancer` as it comes, or in a precision; warmed up at the shape of the picture to come."""
    from sr_tile import Enhancer

    enhancer = Enhancer(path, precision=precision, expected_pixels=WORK)  # the command says it of the full picture
    enhancer.warm_up("random", size)
    return enhancer.enhance


def loop(name: str, path: Path, size: tuple[int, int]) -> Contender:
    """One tile a call, plain averaging."""
    return functools.partial(_loop, _session(path), SCALES[name])


def pytorch(name: str, path: Path, size: tuple[int, int], fewer: bool = False) -> Contender:
    """The same loop around the network in PyTorch, in float32 or by its autocast to bfloat16; channels last in both."""
    return functools.partial(_loop, in_torch(name, path, fewer), SCALES[name])


def ncnn(name: str, path: Path, size: tuple[int, int], fewer: bool = False) -> Contender:
    """The same loop around ncnn, in float32 (Winograd's convolutions) or storing bfloat16."""
    return functools.partial(_loop, in_ncnn(name, path, TILE, fewer), SCALES[name])


def whole(name: str, path: Path, size: tuple[int, int]) -> Contender:
    """The whole picture in one call: the limit, where it fits."""
    session = _session(path)
    return lambda image_hwc: _finish(session(_start(image_hwc))[0], image_hwc.dtype)


def monai(name: str, path: Path, size: tuple[int, int], batch: int) -> Contender:
    """MONAI's sliding window with the same session, tile and overlap, its other settings as they come."""
    import torch
    from monai.inferers import sliding_window_inference

    session = _session(path)

    def run(image_hwc: np.ndarray) -> np.ndarray:
        output = sliding_window_inference(
            torch.from_numpy(_start(image_hwc)),
            roi_size=(TILE, TILE),
            sw_batch_size=batch,
            predictor=lambda tiles: torch.from_numpy(session(tiles.numpy())),
            overlap=OVERLAP / TILE,
        )
        return _finish(output.numpy()[0], image_hwc.dtype)

    return run


CONTENDERS: dict[str, Callable[[str, Path, tuple[int, int]], Contender]] = {
    "sr-tile": ours,
    "sr-tile, fp32": functools.partial(ours, precision="fp32"),
    "sr-tile, bf16": functools.partial(ours, precision="bf16"),
    "sr-tile, int8": functools.partial(ours, precision="int8"),
    "plain loop": loop,
    "MONAI, batch 1": functools.partial(monai, batch=1),
    "MONAI, batch 4": functools.partial(monai, batch=4),
    "PyTorch loop": pytorch,
    "PyTorch loop, bf16": functools.partial(pytorch, fewer=True),
    "ncnn loop": ncnn,
    "ncnn loop, bf16": functools.partial(ncnn, fewer=True),
    "whole image": whole,
}


def starts(length: int, tile: int = TILE, overlap: int = OVERLAP) -> list[int]:
    """Where the common loop begins its tiles: every `tile - overlap` pixels, the last one at the edge.

    >>> starts(448)
    [0, 192]
    """
    return [*range(0, max(0, length - tile), tile - overlap), max(0, length - tile)]


def tiles(size: tuple[int, int]) -> int:
    """How many tiles the common loop, and MONAI, run over a picture."""
    return len(starts(size[0])) * len(starts(size[1]))


def _loop(call: Call, scale: int, image_hwc: np.ndarray) -> np.ndarray:
    picture = _start(image_hwc)
    height, width = image_hwc.shape[:2]
    total = np.zeros((3, height * scale, width * scale), np.float32)
    count = np.zeros((1, height * scale, width * scale), np.float32)
    for y in starts(height):
        for x in starts(width):
            tile = call(np.ascontiguousarray(picture[:, :, y : y + TILE, x : x + TILE]))[0]
            place = np.s_[:, y * scale : y * scale + tile.shape[1], x * scale : x * scale + tile.shape[2]]
            total[place] += tile
            count[place] += 1
    return _finish(total / count, image_hwc.dtype)


def _session(path: Path) -> Call:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"input": batch})[0]


def _start(image_hwc: np.ndarray) -> np.ndarray:
    picture = image_hwc.transpose(2, 0, 1)[None].astype(np.float32)
    return picture / np.float32(255) if image_hwc.dtype == np.uint8 else picture


def _finish(output_chw: np.ndarray, dtype: np.dtype) -> np.ndarray:
    picture = np.clip(output_chw, 0, 1).transpose(1, 2, 0)
    return np.rint(picture * 255).astype(np.uint8) if dtype == np.uint8 else np.ascontiguousarray(picture)
