"""The exporter's graphs of large networks with random weights: as much work as the published ones, and no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import onnx

from sr_tile.export.architectures import detect


def reference() -> ModuleType:
    """The networks as the tests write them."""
    path = Path(__file__).parents[1] / "tests/support/reference_networks.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_network(path: Path, name: str) -> Path:
    """Write `nafnet` (GoPro, width 32) or `scunet` as `sr-tile export-onnx` would.

    Raises:
        KeyError: another name.
    """
    source = reference()
    network = source.randomise({"nafnet": source.NAFNet, "scunet": source.SCUNet}[name](), 1)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    onnx.save(detect(state).graph(18), path)
    return path
