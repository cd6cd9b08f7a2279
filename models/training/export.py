"""Write a trained network as ONNX, with what sr-tile has to know about it, and check it against PyTorch."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from networks import fold
from torch import nn
from train import SCALES, build_from

OPSET = 18
SIZES = ((1, 1, 1), (1, 2, 7), (2, 19, 16), (1, 64, 97), (3, 33, 40))


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def write_onnx(network: nn.Module, path: Path) -> None:
    """Export with batch, height and width dynamic."""
    axes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        network,
        (torch.rand(2, 3, 48, 40),),
        str(path),
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=(axes,),
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
    )
    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.save(model, path)


def tidy(model: onnx.ModelProto, facts: dict[str, Any]) -> None:
    """Name the axes, drop what the exporter noted about its sources, and write sr-tile's metadata."""
    model.producer_name, model.producer_version, model.doc_string = "sr-tile", "", ""
    for value, name in ((model.graph.input[0], "input"), (model.graph.output[0], "output")):
        del value.metadata_props[:]
        for axis, label in ((0, "batch"), (2, f"{name}_height"), (3, f"{name}_width")):
            value.type.tensor_type.shape.dim[axis].dim_param = label
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"sr_tile": json.dumps(facts)})


def difference(network: nn.Module, path: Path) -> float:
    """Largest difference from PyTorch over inputs of several sizes and batches."""
    run = session(path)
    worst = 0.0
    for shape in SIZES:
        batch = torch.rand(shape[0], 3, *shape[1:])
        with torch.inference_mode():
            expected = network(batch).numpy()
        worst = max(worst, float(np.abs(run.run(None, {"input": batch.numpy()})[0] - expected).max()))
    return worst


def influence(path: Path, scale: int, phases: int = 1, largest: int = 160) -> int:
    """Halo by measurement: how far, in input pixels, the change of one pixel is felt.

    Args:
        path: the ONNX file.
        scale: its enlargement.
        phases: stride of the network; each position of the pixel within a stride is tried along the diagonal.
        largest: half the edge of the probed image.
    """
    run = session(path)
    edge = 2 * largest + phases
    rng = np.random.default_rng(0)
    farthest = 0
    image = rng.random((1, 3, edge, edge), np.float32)
    before = run.run(None, {"input": image})[0]
    for shift in range(phases):
        centre = largest + shift
        changed = image.copy()
        changed[:, :, centre, centre] = 4 - changed[:, :, centre, centre]
        rows, columns = np.nonzero(np.abs(run.run(None, {"input": changed})[0] - before).max(axis=(0, 1)))
        reached = np.concatenate([rows, columns]) // scale
        farthest = max(farthest, int(np.abs(reached - centre).max()))
    return farthest


def flat_error(path: Path) -> float:
    """Largest error on constant images, grey and coloured."""
    run = session(path)
    worst = 0.0
    for colour in ((0, 0, 0), (0.25,) * 3, (0.5,) * 3, (1, 1, 1), (0.9, 0.2, 0.4)):
        image = np.broadcast_to(np.array(colour, np.float32)[None, :, None, None], (1, 3, 40, 56))
        result = run.run(None, {"input": np.ascontiguousarray(image)})[0]
        worst = max(worst, float(np.abs(result - np.array(colour, np.float32)[None, :, None, None]).max()))
    return worst


def milliseconds(path: Path, edge: int = 256, threads: int = 2) -> float:
    """Best time of ten runs on a square of `edge` pixels."""
    run = session(path, threads)
    image = np.random.default_rng(0).random((1, 3, edge, edge), np.float32)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        run.run(None, {"input": image})
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def arithmetic(network: nn.Module, edge: int = 128) -> int:
    """Multiply-accumulates of the convolutions per input pixel."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel() * output.shape[2] * output.shape[3]
        elif isinstance(module, nn.ConvTranspose2d):
            total += module.weight.numel() * inputs[0].shape[2] * inputs[0].shape[3]

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.inference_mode():
        network(torch.rand(1, 3, edge, edge))
    for hook in hooks:
        hook.remove()
    return total // edge**2


def main() -> None:
    """Export, measure, write the metadata, and put the file in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="ema.pt of a run, or of several: their mean is taken")
    parser.add_argument("target", type=Path, help="the ONNX file to write")
    parser.add_argument("--tile", type=int, default=512, help="recommended tile")
    parser.add_argument("--halo", type=int, help="recommended halo, where the whole reach of the network is too much")
    parser.add_argument("--training", default="", help="one line on how it was trained")
    options = parser.parse_args()
    saved = [torch.load(path, map_location="cpu", weights_only=True) for path in options.checkpoints]
    network = build_from(saved[0]["config"])
    weights = {name: torch.stack([run["ema"][name] for run in saved]).mean(dim=0) for name in saved[0]["ema"]}
    network.load_state_dict(weights)
    network = fold(network.eval())
    scale = SCALES[saved[0]["config"]["task"]]
    aside = options.target.with_suffix(".tmp.onnx")
    write_onnx(network, aside)
    halo = options.halo
    if halo is None:
        halo = -(-influence(aside, scale, network.multiple) // network.multiple) * network.multiple
    facts = {
        "name": options.target.stem,
        "architecture": network.description,
        "scale": scale,
        "channels": 3,
        "multiple": network.multiple,
        "halo": halo,
        "tile": options.tile,
        "value_range": [0.0, 1.0],
        "licence": "MIT",
        "training": options.training,
    }
    model = onnx.load(aside)
    tidy(model, facts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, aside)
    print(json.dumps(facts, indent=1))
    print(f"parameters {sum(p.numel() for p in network.parameters())}, {arithmetic(network) / 1000:.1f} kMAC per pixel")
    print(f"differs from PyTorch by {difference(network, aside):.2g}, on flat fields by {flat_error(aside):.2g}")
    print(f"{milliseconds(aside):.1f} ms for 256 x 256, {aside.stat().st_size / 2**20:.2f} MiB")
    aside.replace(options.target)


if __name__ == "__main__":
    main()
