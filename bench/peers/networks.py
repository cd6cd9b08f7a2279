"""The networks of the race, as ONNX files and as PyTorch modules with the same weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from random_networks import reference

from sr_tile.export.architectures import detect
from sr_tile.export.checkpoint import export
from sr_tile.export.state_dict import load_state
from sr_tile.models import zoo

ROOT = Path(__file__).parents[2]
RESIDUAL = 0.05  # of NAFNet's last layer: a restoration changes a picture a little, random weights would replace it
SCALES = {"x2": 2, "nafnet": 1}


def prepare(name: str, folder: Path) -> Path:
    """The ONNX file of a network; NAFNet's random weights lie beside it as `nafnet.pth`."""
    if name == "x2":
        return zoo.find("x2")
    source = reference()
    network = source.randomise(source.NAFNet(), 1)  # the sizes of NAFNet-GoPro-width32
    network.ending.weight.data *= RESIDUAL
    network.ending.bias.data *= RESIDUAL
    torch.save({"params": network.state_dict()}, folder / "nafnet.pth")
    # As published for deblurring: what a pixel becomes does not depend on the size of the tile.
    export(folder / "nafnet.pth", folder / "nafnet.onnx", pooling="local")
    return folder / "nafnet.onnx"


def in_torch(name: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The same network in PyTorch, (N, 3, h, w) to (N, 3, h * scale, w * scale)."""
    if name != "x2":
        return detect(load_state(path.with_suffix(".pth")), "local").reference
    module = _enlarger(path)

    def run(batch_nchw: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(batch_nchw)).numpy()

    return run


def _enlarger(path: Path) -> torch.nn.Module:
    sys.path.insert(0, str(ROOT / "models/training"))
    from networks import Enlarger, fold

    weights = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    network = fold(Enlarger(SCALES["x2"]))
    state = {name: torch.from_numpy(weights[name].copy()) for name in network.state_dict()}
    network.load_state_dict(state)
    return network.eval()
