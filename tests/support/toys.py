"""Toy engines and ONNX models with known answers, for tests only."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sr_tile.engines.base import BaseEngine
from sr_tile.errors import OutOfMemoryError
from sr_tile.models.spec import METADATA_KEY, ModelSpec


class ToyEngine(BaseEngine):
    """An engine that repeats each pixel `scale` times in both directions: the identity, at any scale."""

    device = "cpu"
    identity = "toy"

    def __init__(
        self, spec: ModelSpec | None = None, fails: Callable[[int, tuple[int, ...]], bool] | None = None
    ) -> None:
        self.spec = spec or ModelSpec("toy", scale=1, multiple=1)
        self.shapes: list[tuple[int, ...]] = []
        self.rebuilt = 0
        self._fails = fails or (lambda call, shape: False)

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        self.shapes.append(batch_nchw.shape)
        if self._fails(len(self.shapes) - 1, batch_nchw.shape):
            raise OutOfMemoryError("toy: out of memory")
        return self.answer(batch_nchw)

    def answer(self, batch_nchw: np.ndarray) -> np.ndarray:
        scale = self.spec.scale
        return batch_nchw.repeat(scale, axis=2).repeat(scale, axis=3)

    def rebuild(self) -> None:
        self.rebuilt += 1

    def memory_free(self) -> int:
        return 2**30

    def memory_used(self) -> int:
        return 0


class BoxBlurEngine(ToyEngine):
    """A box blur over `2 * radius + 1` pixels with zero padding, whose receptive field is exactly `radius`."""

    def __init__(self, radius: int, **keywords: object) -> None:
        super().__init__(**keywords)
        self.radius = radius

    def answer(self, batch_nchw: np.ndarray) -> np.ndarray:
        size = 2 * self.radius + 1
        padded = np.pad(batch_nchw, ((0, 0), (0, 0), (self.radius,) * 2, (self.radius,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
        return super().answer(windows.mean(axis=(-2, -1), dtype=np.float64).astype(np.float32))


def save_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    weights: dict[str, np.ndarray] | None = None,
    shape: tuple[int | str, ...] = ("n", 3, "h", "w"),
    out_shape: tuple[int | str, ...] | None = None,
    dtype: int = TensorProto.FLOAT,
    metadata: str | None = None,
    extra_inputs: tuple[str, ...] = (),
) -> Path:
    """Write a graph from `input` to `output`."""
    inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("input", *extra_inputs)]
    outputs = [helper.make_tensor_value_info("output", dtype, out_shape)]
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    onnx.save(model, path)
    return path


def identity_model(path: Path, scale: int = 1, **keywords: object) -> Path:
    """Repeats each pixel `scale` times in both directions."""
    scales = np.array([1, 1, scale, scale], np.float32)
    node = helper.make_node(
        "Resize",
        ["input", "", "scales"],
        ["output"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return save_model(path, [node], weights={"scales": scales}, **keywords)


def conv_model(
    path: Path, scale: int = 2, depth: int = 3, channels: int = 3, seed: int = 0, **keywords: object
) -> Path:
    """`depth` convolutions of 3 x 3 with zero padding and a pixel shuffle; its receptive field reaches `depth` pixels."""
    rng = np.random.default_rng(seed)
    weights, nodes, last, width = {}, [], "input", channels
    for layer in range(depth):
        out = channels * scale**2 if layer == depth - 1 else 8
        weights[f"w{layer}"] = (rng.standard_normal((out, width, 3, 3)) / (3 * width**0.5)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        last, width = f"c{layer}", out
        if layer < depth - 1:
            nodes.append(helper.make_node("Tanh", [last], [f"t{layer}"]))
            last = f"t{layer}"
    nodes.append(helper.make_node("DepthToSpace", [last], ["output"], blocksize=scale, mode="CRD"))
    return save_model(path, nodes, weights=weights, **keywords)


def overflowing_model(path: Path, limit: float = 0.5, **keywords: object) -> Path:
    """The identity by way of float16, which overflows where a pixel is brighter than `limit`.

    The CPU computes in float32 and drops the casts that it put in itself, but not those of the file.
    """
    gain = np.float32(65520 / limit)
    weights = {"gain": np.array(gain), "undo": np.array(1 / gain)}
    nodes = [
        helper.make_node("Mul", ["input", "gain"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "undo"], ["output"]),
    ]
    # With a multiple nothing is found out by running it, and overflowing.
    return save_model(path, nodes, weights=weights, metadata='{"multiple": 1}', **keywords)


def noise_image(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """Every value equally likely."""
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random((height, width, channels), np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def repeat(image: np.ndarray, scale: int) -> np.ndarray:
    """What the identity model makes of an image."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
