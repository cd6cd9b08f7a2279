"""The networks of the race, as ONNX files and as PyTorch modules with the same weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
import torch
from random_networks import reference

from sr_tile.export.checkpoint import export
from sr_tile.models import zoo

ROOT = Path(__file__).parents[2]
RESIDUAL = 0.05  # of NAFNet's last layer: a restoration changes a picture a little, random weights would replace it
SCALES = {"x2": 2, "denoise": 1, "nafnet": 1, "scunet": 1}
Call = Callable[[np.ndarray], np.ndarray]


def prepare(name: str, folder: Path) -> Path:
    """The ONNX file of a network; the random weights of those that are not bundled lie beside it as a checkpoint."""
    if name in zoo.bundled() or name in zoo.OLD_NAMES:
        return Path(shutil.copy(zoo.find(name), folder / f"{name}.onnx"))
    source = reference()
    network = source.randomise({"nafnet": source.NAFNet, "scunet": source.SCUNet}[name](), 1)
    if name == "nafnet":  # the sizes of NAFNet-GoPro-width32
        network.ending.weight.data *= RESIDUAL
        network.ending.bias.data *= RESIDUAL
    torch.save({"params": network.state_dict()}, folder / f"{name}.pth")
    if name == "nafnet":
        # As published for deblurring: what a pixel becomes does not depend on the size of the tile.
        export(folder / "nafnet.pth", folder / "nafnet.onnx", pooling="local")
    else:
        export(folder / f"{name}.pth", folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def module_of(name: str, path: Path) -> torch.nn.Module:
    """The same network as a PyTorch module, with the weights of its ONNX file."""
    modules = {"x2": _enlarger, "denoise": _denoiser}
    return modules[name](path) if name in modules else _reference(path.with_suffix(".pth"))


def in_torch(name: str, path: Path, fewer: bool = False) -> Call:
    """The same network in PyTorch, (N, 3, h, w) to (N, 3, h * scale, w * scale), in its fastest layout on a CPU.

    Args:
        name: of the network.
        path: of its ONNX file.
        fewer: by autocast to bfloat16.
    """
    module = module_of(name, path).to(memory_format=torch.channels_last)

    def run(batch_nchw: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(batch_nchw).to(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fewer):
            return module(batch).float().contiguous().numpy()

    return run


def in_ncnn(name: str, path: Path, side: int, fewer: bool = False) -> Call:
    """The same network in ncnn, converted by pnnx for tiles of one size (`pip install pnnx ncnn`).

    Raises:
        RuntimeError: pnnx leaves operators in it that ncnn does not know.
    """
    import ncnn

    folder = path.parent / f"ncnn-{name}"
    if not folder.is_dir():
        folder.mkdir()
        source = folder / "net.onnx"
        source.write_bytes(path.read_bytes())
        if name in ("nafnet", "scunet"):  # of ONNX files like these it leaves `pnnx.Expression`
            source = folder / "net.pt"
            torch.jit.trace(_reference(path.with_suffix(".pth")), torch.rand(1, 3, side, side)).save(source)
        command = ["pnnx", source.name, f"inputshape=[1,3,{side},{side}]", "fp16=0"]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = psutil.cpu_count(logical=False) or 1
    network.opt.use_bf16_storage = fewer
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
        setattr(network.opt, f"use_{option}", False)
    if network.load_param(str(folder / "net.ncnn.param")) or network.load_model(str(folder / "net.ncnn.bin")):
        raise RuntimeError(f"{name}: ncnn does not know all of what pnnx made")

    def run(batch_nchw: np.ndarray) -> np.ndarray:
        extractor = network.create_extractor()
        extractor.input(network.input_names()[0], ncnn.Mat(batch_nchw[0]))
        code, output = extractor.extract(network.output_names()[0])
        assert code == 0
        return np.array(output)[None]

    return run


def _weights(path: Path) -> dict[str, torch.Tensor]:
    stored = onnx.load(path).graph.initializer
    return {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in stored}


def _enlarger(path: Path) -> torch.nn.Module:
    sys.path.insert(0, str(ROOT / "models/training"))
    from networks import Enlarger, fold

    network, weights = fold(Enlarger(SCALES["x2"])), _weights(path)
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval()


def _denoiser(path: Path) -> torch.nn.Module:
    sys.path.insert(0, str(ROOT / "models/training"))
    from networks import fold
    from restorers import Denoiser

    network, weights = fold(Denoiser()), _weights(path)
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval()


def _reference(path: Path) -> torch.nn.Module:
    source = reference()
    network = {"nafnet": source.NAFNet, "scunet": source.SCUNet}[path.stem]()
    network.load_state_dict(torch.load(path)["params"])
    return network.eval()
