"""What the benchmarks share: photographs of any size, tiny models, the machine's description."""

import platform
from pathlib import Path

import numpy as np

from sr_tile.images import ImageInfo, ImageWriter


def photograph(path: Path, height: int, width: int, rows: int = 256) -> Path:
    """Write a picture of any size, made of scikit-image's photographs side by side, mirrored at each join."""
    from skimage import data

    picture = data.astronaut()
    mirrored = np.concatenate([picture, picture[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[::-1]], axis=0)
    columns = np.arange(width) % mirrored.shape[1]
    with ImageWriter(path, ImageInfo(height, width, 3, np.dtype(np.uint8)), overwrite=True) as writer:
        for first in range(0, height, rows):
            lines = np.arange(first, min(first + rows, height)) % mirrored.shape[0]
            writer.write_rows(mirrored[lines][:, columns])
    return path


def tiny_model(path: Path, scale: int = 2) -> Path:
    """One 3 x 3 convolution and a pixel shuffle: as little work as a model can be."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from sr_tile.spec import METADATA_KEY, ModelSpec

    weights = np.zeros((3 * scale**2, 3, 3, 3), np.float32)
    for channel in range(3):
        weights[channel * scale**2 : (channel + 1) * scale**2, channel, 1, 1] = 1
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["wide"], ["output"], blocksize=scale, mode="CRD"),
    ]
    picture = ("n", 3, "h", "w")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, picture)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec("tiny", scale=scale, multiple=1, halo=1, tile=512)
    helper.set_model_props(model, {METADATA_KEY: spec.to_metadata()})
    onnx.save(model, path)
    return path


def machine() -> str:
    """Processor, cores and versions, for tables."""
    import onnxruntime
    import psutil

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    memory = psutil.virtual_memory().total / 2**30
    return f"{name}, {psutil.cpu_count()} cores, {memory:.0f} GiB, ONNX Runtime {onnxruntime.__version__}"
