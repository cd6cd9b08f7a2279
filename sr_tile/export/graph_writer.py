"""A small writer of ONNX graphs: one call, one node; the value that comes back is the name of its output."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float64]
"""Weights while they are folded; the graph stores them as float32."""


class GraphWriter:
    """Collects nodes and constants of one picture-to-picture graph, NCHW, every size but the channels dynamic.

    Args:
        name: name of the graph, shown by viewers.
        channels: channels of the input picture.
        opset: version of the standard operator set.
    """

    def __init__(self, name: str, channels: int, opset: int) -> None:
        self.input = "input"
        self._name, self._channels, self._opset = name, channels, opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._shapes: list[onnx.ValueInfoProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._sizes: dict[tuple[str, int], tuple[str, str]] = {}

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Append a node with one output and return the name of that output."""
        output = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: object) -> list[str]:
        """Append a node with several outputs and return their names."""
        names = [f"{kind.lower()}_{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def constant(self, array: NDArray[np.generic]) -> str:
        """Store a constant and return its name; an equal one is stored once."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"constant_{len(self._known)}"
            self._constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def floats(self, values: object) -> str:
        """A float32 constant of any shape; a plain number gives a scalar, which runtimes broadcast fastest."""
        return self.constant(np.asarray(values, np.float32))

    def ints(self, *values: int) -> str:
        """A 1-D int64 constant, as the shapes, axes and pads of ONNX are."""
        return self.constant(np.array(values, np.int64))

    def conv(self, value: str, weight: Array, bias: Array | None = None, *, stride: int = 1, groups: int = 1) -> str:
        """Convolution; a stride of 1 keeps the size (zeros around), a larger one uses no padding.

        Args:
            value: (B, in, H, W).
            weight: (out, in / groups, k, k).
            bias: (out,), or None.
            stride: step of the kernel.
            groups: groups of channels that do not mix.
        """
        size = weight.shape[-1]
        pad = size // 2 if stride == 1 else 0
        inputs = [value, self.floats(weight)] + ([] if bias is None else [self.floats(bias)])
        shape = {"kernel_shape": [size, size], "pads": [pad] * 4, "strides": [stride] * 2, "group": groups}
        return self.op("Conv", *inputs, **shape)

    def linear(self, tokens: str, weight: Array) -> str:
        """`weight` (out, in) times the last axis of `tokens` (..., in)."""
        return self.op("MatMul", tokens, self.floats(weight.T))

    def to_tokens(self, value: str) -> str:
        """(B, C, H, W) to (B, H, W, C)."""
        return self.op("Transpose", value, perm=[0, 2, 3, 1])

    def to_planes(self, tokens: str) -> str:
        """(B, H, W, C) to (B, C, H, W)."""
        return self.op("Transpose", tokens, perm=[0, 3, 1, 2])

    def declare(self, value: str, channels: int, level: int) -> str:
        """Say that `value` is (B, channels, H / 2^level, W / 2^level) of the padded picture, and return it.

        Runtimes can't derive that two values behind a dynamic `Pad` have one size. ONNX Runtime, told so by equal names
        of dimensions, keeps sums and products of convolutions in its blocked layout and fuses sums into convolutions.
        """
        shape = ["batch", channels, f"padded_height_{level}", f"padded_width_{level}"]
        self._shapes.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, shape))
        return value

    def size(self, value: str) -> str:
        """Height and width of a (B, C, H, W) value: an int64 tensor of length 2."""
        return self.op("Shape", value, start=2, end=4)

    def sides(self, value: str, level: int) -> tuple[str, str]:
        """Height and width of a (B, C, H, W) value over 2^level, each an int64 tensor of length 1; written once."""
        if (value, level) not in self._sizes:
            size = self.op("Div", self.size(value), self.ints(1 << level))
            height, width = (self.op("Slice", size, self.ints(i), self.ints(i + 1)) for i in (0, 1))
            self._sizes[value, level] = height, width
        return self._sizes[value, level]

    def pad_to_multiple(self, value: str, multiple: int, mode: str) -> str:
        """Pad right and bottom until height and width are divisible by `multiple`; mode as in ONNX `Pad`."""
        missing = self.op("Mod", self.op("Neg", self.size(value)), self.ints(multiple))
        pads = self.op("Concat", self.ints(0, 0, 0, 0, 0, 0), missing, axis=0)
        return self.op("Pad", value, pads, mode=mode)

    def crop(self, value: str, like: str) -> str:
        """Keep the top left corner of `value` that has the height and width of `like`."""
        return self.op("Slice", value, self.ints(0, 0), self.size(like), self.ints(2, 3))

    def model(self, output: str) -> onnx.ModelProto:
        """Finish: `output` becomes the picture that the graph returns."""
        self._nodes.append(helper.make_node("Identity", [output], ["output"], name="output"))
        shape = ["batch", self._channels, "height", "width"]
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
            self._constants,
            value_info=self._shapes,
        )
        opsets = [helper.make_opsetid("", self._opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="sr-tile")
