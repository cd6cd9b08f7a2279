"""Race the exporter's graphs against plain exports of the reference networks, interleaved, in one process.

    python bench/export_variants.py [--network nafnet|scunet] [--batch 1] [--rounds 9]

Prints, per graph, the median time, the ratio to the plain export, and the share of the machine's matrix product rate,
which is measured in the same rounds. Random weights; 256 x 256 pixels; ONNX Runtime on the CPU with its own defaults.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper

from sr_tile.export.architectures import detect, tokens

GFLOP = {"nafnet": 31.92, "scunet": 157.4}
"""Multiplications and additions of one 256 x 256 picture, in units of 10^9."""


def _reference():
    path = Path(__file__).parents[1] / "tests/support/reference_networks.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _plain(network: torch.nn.Module) -> bytes:
    buffer, axes = io.BytesIO(), {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.rand(1, 3, 128, 128),),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": axes, "output": axes},
        )
    return buffer.getvalue()


def _product(side: int = 2048) -> bytes:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", info[:2], info[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=GFLOP, default="nafnet")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    reference = _reference()
    network = reference.randomise(reference.NAFNet() if options.network == "nafnet" else reference.SCUNet(), 1)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    graphs = {"plain": _plain(network), "exporter": detect(state).graph(18).SerializeToString()}
    few, tokens.FEW_CHANNELS = tokens.FEW_CHANNELS, 0
    graphs["exporter, LayerNormalization at every width"] = detect(state).graph(18).SerializeToString()
    tokens.FEW_CHANNELS = few
    picture = np.random.default_rng(0).random((options.batch, 3, 256, 256), dtype=np.float32)
    square = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    import onnxruntime  # not above sr_tile, which switches its telemetry off

    runs = {name: (onnxruntime.InferenceSession(graph), {"input": picture}) for name, graph in graphs.items()}
    runs["product"] = onnxruntime.InferenceSession(_product()), {"a": square, "b": square}
    results = {name: session.run(None, feed)[0] for name, (session, feed) in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (session, feed) in runs.items():
            start = time.perf_counter()
            session.run(None, feed)
            times[name].append(time.perf_counter() - start)
    median = {name: float(np.median(values)) for name, values in times.items()}
    rate = 2 * 2048**3 / median["product"] / 1e9
    print(f"matrix product {rate:.0f} GFLOP/s, batch {options.batch}")
    for name in graphs:
        share = GFLOP[options.network] * options.batch / median[name] / rate
        error = np.abs(results[name] - results["plain"]).max() / np.abs(results["plain"]).max()
        ratio = median["plain"] / median[name]
        print(f"{name:45} {median[name] * 1e3:8.1f} ms  x {ratio:.2f}  {share:4.0%} of the rate  error {error:.1e}")


if __name__ == "__main__":
    main()
