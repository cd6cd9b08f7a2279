"""An ONNX graph under edit: its layout, (N, C, H, W) in RGB, and what its input takes."""

from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from sr_tile.errors import ArgumentError, ModelLoadError
from sr_tile.models.onnx_files import inner_graphs

Dim = int | Literal["dynamic"]
Shape = list[int | None]


class Graph:
    """A model under edit; edits change it in place.

    Args:
        model: its first output is the picture, its only input that has no default is the picture to restore.

    Raises:
        ModelLoadError: it has another number of inputs, or its input has not four axes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, model.graph
        constants = {tensor.name for tensor in self.graph.initializer}
        inputs = [item for item in self.graph.input if item.name not in constants]
        if len(inputs) != 1:
            names = ", ".join(item.name for item in inputs)
            raise ModelLoadError(f"the model has {len(inputs)} inputs ({names}); sr-tile feeds one picture")
        self.input, self.output = inputs[0], self.graph.output[0]
        if len(self.dims) != 4:
            raise ModelLoadError(f"the model's input has {len(self.dims)} axes; sr-tile feeds pictures of four")
        for index, node in enumerate(self.graph.node):
            node.name = node.name or f"{node.op_type}_{index}"

    @property
    def dims(self) -> Shape:
        """Sizes of the input, None where any is taken."""
        shape = self.input.type.tensor_type.shape.dim
        return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in shape]

    def adapt_layout(self, *, nhwc: bool, bgr: bool) -> None:
        """Put Transposes, and reversals of the channels, at both ends of a graph that takes (N, H, W, C) or BGR.

        Raises:
            ArgumentError: BGR of a graph that has no three channels.
        """
        if nhwc:
            dims = [onnx.TensorShapeProto.Dimension() for _ in range(4)]
            for dim, old in zip(dims, (0, 3, 1, 2), strict=True):
                dim.CopyFrom(self.input.type.tensor_type.shape.dim[old])
            self.input.type.tensor_type.shape.ClearField("dim")
            self.input.type.tensor_type.shape.dim.extend(dims)
            self._wrap("nhwc", "Transpose", [], {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]})
        if bgr:
            if self.dims[1] not in (3, None):
                raise ArgumentError(f"--bgr needs a model of 3 channels; this one has {self.dims[1]}")
            indices = self.constant("sr_tile_reversed", [2, 1, 0])
            self._wrap("bgr", "Gather", [indices], {"axis": 1}, {"axis": 1})

    def _wrap(
        self, name: str, op: str, constants: list[str], before: dict[str, object], after: dict[str, object]
    ) -> None:
        """A node between the input and all that reads it, and one between the output and its maker."""
        source, target = self.input.name, self.output.name
        inner_source, inner_target = f"{source}_sr_tile_{name}", f"{target}_sr_tile_{name}"
        _rename(self.graph, {source: inner_source, target: inner_target})
        first: Any = helper.make_node(op, [source, *constants], [inner_source], name=f"sr_tile_{name}_in", **before)
        last: Any = helper.make_node(op, [inner_target, *constants], [target], name=f"sr_tile_{name}_out", **after)
        self.graph.node.insert(0, first)
        self.graph.node.append(last)

    def set_channels(self, channels: int) -> None:
        """Fix the channels of a graph that takes any.

        Raises:
            ArgumentError: it takes others.
        """
        if self.dims[1] not in (None, channels):
            raise ArgumentError(f"--channels {channels}: the graph takes {self.dims[1]}; leave it out")
        self.input.type.tensor_type.shape.dim[1].dim_value = channels

    def set_dims(self, batch: Dim | None, size: tuple[int, int] | Literal["dynamic"] | None) -> None:
        """Say what the input takes, and let the rest follow from it; None leaves it as it is."""
        dims = self.input.type.tensor_type.shape.dim
        height, width = (size, size) if size is None or size == "dynamic" else size
        for dim, value, name in zip(
            (dims[0], dims[2], dims[3]), (batch, height, width), ("batch", "height", "width"), strict=True
        ):
            if value == "dynamic":
                dim.dim_param = dim.dim_param or name
            elif value is not None:
                dim.dim_value = int(value)
        self.graph.ClearField("value_info")
        for output in self.graph.output:
            output.type.tensor_type.ClearField("shape")
        inferred = {item.name: item for item in shape_inference.infer_shapes(self.model, data_prop=True).graph.output}
        for output in self.graph.output:
            output.CopyFrom(inferred[output.name])
        shape = self.output.type.tensor_type.shape.dim
        if not self.output.type.tensor_type.HasField("shape"):  # behind an operator of which ONNX knows nothing
            for name in ("batch", "channels", "out_height", "out_width"):
                shape.add().dim_param = name
        if len(shape) == 4:
            shape[0].CopyFrom(dims[0])

    def pixel_tensors(self) -> set[str]:
        """Tensors that hold pixels: computed from the picture, not from its shape."""
        found = {self.input.name}
        for node in self.graph.node:
            if node.op_type not in ("Shape", "Size") and found.intersection(node.input):
                found.update(node.output)
        return found

    def batch_axis_nodes(self) -> list[str]:
        """Nodes that work along the batch axis, so that rows cannot be told apart."""
        pixels = self.pixel_tensors()
        return [describe(node) for node in self.graph.node if pixels.intersection(node.input) and self._first(node)]

    def _first(self, node: onnx.NodeProto) -> bool:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        axes = attributes.get("axes", attributes.get("axis"))
        if axes is None and len(node.input) > 1 and (node.op_type.startswith("Reduce") or node.op_type == "Squeeze"):
            value = self.value(node.input[1])
            axes = None if value is None else value.tolist()
        if node.op_type == "Transpose":
            return attributes.get("perm", [1])[0] != 0
        whole = axes is None and (node.op_type.startswith("Reduce") or node.op_type == "Squeeze")
        return whole or (0 in axes if isinstance(axes, list) else axes == 0)

    def value(self, name: str) -> np.ndarray | None:
        """The constant of that name, None where there is none."""
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        for node in self.graph.node:
            if name in node.output and node.op_type == "Constant" and node.attribute[0].name == "value":
                return numpy_helper.to_array(node.attribute[0].t)
        return None

    def constant(self, name: str, value: "list[int] | np.ndarray") -> str:
        """A new constant, of int64 where it comes as a list, and the name it got."""
        taken = {tensor.name for tensor in self.graph.initializer}
        name = next(n for n in (name, *(f"{name}_{i}" for i in range(len(taken) + 1))) if n not in taken)
        self.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        return name

    def insert_before(self, node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> None:
        """Put nodes into the graph where their results are needed first."""
        place = next(i for i, item in enumerate(self.graph.node) if item.name == node.name)
        for offset, item in enumerate(nodes):
            self.graph.node.insert(place + offset, item)


def describe(node: onnx.NodeProto) -> str:
    """A node as messages name it."""
    return f"node {node.name} ({node.op_type})"


def shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """What shape inference knows of every tensor: None for a size that it does not know."""
    known: dict[str, Shape] = {}
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    for item in (*graph.input, *graph.value_info, *graph.output):
        if item.type.tensor_type.HasField("shape"):
            dims = item.type.tensor_type.shape.dim
            known[item.name] = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    for tensor in graph.initializer:
        known[tensor.name] = list(tensor.dims)
    return known


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Tensors of a graph get other names, in the graphs inside of it, too."""
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = names.get(name, name)
        for inner in inner_graphs(node):
            _rename(inner, names)
            for item in inner.output:
                item.name = names.get(item.name, item.name)
