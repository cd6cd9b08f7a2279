"""Shapes that an exporter baked into a graph as constants, made to follow the data again.

Targets of Reshape and Expand and sizes of Resize hold the shape of the exporter's example. Where the leading entry is
the batch, or an entry is a side of the picture in a place that can be told, it becomes -1, 0, or a value computed from
the shape of the data. These are guesses until the result was run: see `rebatch`.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from sr_tile.errors import ModelError
from sr_tile.rebatch.graph import Graph, Shape, describe, shapes


@dataclass(frozen=True)
class Part:
    """An entry of a shape: the product of entries `start` to `stop` of another shape, times `factor`."""

    start: int
    stop: int
    factor: int = 1


def make_dynamic(graph: Graph, batch: int | None, *, size: bool) -> list[str]:
    """Replace constants that hold the batch, and with `size` those that hold a side of the picture.

    Args:
        graph: changed in place.
        batch: what the graph was exported for; None where it takes any.
        size: the sides are to become free, too.

    Returns:
        One line for each node that was changed.

    Raises:
        ModelError: a node holds a constant that cannot be replaced.
    """
    known, pixels = shapes(graph.model), graph.pixel_tensors()
    done: list[str | None] = []
    for node in list(graph.graph.node):
        if node.op_type == "Reshape" and node.input[0] in pixels:
            data, result = known.get(node.input[0]), known.get(node.output[0])
            if size and graph.value(node.input[1]) is not None and data and result:
                done.append(_reshape_any_size(graph, node, data, result))
            else:
                done.append(_leading(graph, node, 1, batch))
        elif node.op_type == "Expand" and (batch != 1 or _joined(graph, node, pixels)):
            done.append(_leading(graph, node, 1, batch))
        elif node.op_type == "Resize" and node.input[0] in pixels and len(node.input) == 4 and node.input[3]:
            done.append(_resize(graph, node, known, batch))
    return [line for line in done if line]


def infer_reshape(data: list[int], result: list[int]) -> list[int | Part] | None:
    """How a reshaped shape follows from the shape of its data, where any of its sizes may change.

    >>> infer_reshape([1, 8, 6, 5], [1, 8, 30])  # axes merge
    [Part(start=0, stop=1, factor=1), Part(start=1, stop=2, factor=1), Part(start=2, stop=4, factor=1)]
    >>> infer_reshape([1, 12, 6, 5], [1, 3, 2, 2, 6, 5])  # channels split: sides stand behind
    [0, 3, 2, 2, Part(start=2, stop=3, factor=1), Part(start=3, stop=4, factor=1)]
    >>> infer_reshape([1, 30, 8], [1, 6, 5, 8])  # which side is which?

    Returns:
        One entry an axis of the result; None where it cannot be told.
    """
    parts: list[int | Part] = []
    start = 0
    for index, entry in enumerate(result):
        if entry == 1 and (start >= len(data) or data[start] != 1):
            parts.append(1)
            continue
        stop = start + 1
        while math.prod(data[start:stop]) < entry and stop < len(data):
            stop += 1
        if index == len(result) - 1:
            stop = len(data)
        if math.prod(data[start:stop]) != entry or start >= len(data):
            break
        parts.append(Part(start, stop))
        start = stop
    if len(parts) == len(result) and start == len(data):
        return parts
    behind = len(data) - 2
    split = result[1 : len(result) - behind]
    same = data[0] == result[0] and behind >= 0 and (not behind or data[2:] == result[-behind:])
    if len(data) == 4 and same and math.prod(split) == data[1]:
        return [0, *split, *(Part(2 + i, 3 + i) for i in range(behind))]
    return None


def _reshape_any_size(graph: Graph, node: onnx.NodeProto, data: Shape, result: Shape) -> str:
    whole = None not in data and None not in result
    parts = infer_reshape(data, result) if whole else None  # type: ignore[arg-type]
    if parts is None:
        raise ModelError(
            f"{describe(node)} prevents a dynamic size: it turns {data} into {result}, and which of these constants "
            "are sides of the picture cannot be told; export the model again with dynamic axes"
        )
    _derive(graph, node, 1, node.input[0], parts)
    return f"{describe(node)}: shape {result} follows its data"


def _leading(graph: Graph, node: onnx.NodeProto, place: int, batch: int | None) -> str | None:
    """Let the leading entry of the shape that is input `place` of a node follow the batch."""
    target = graph.value(node.input[place])
    if batch is None:
        return None
    if target is None:
        return _leading_of_concat(graph, node, place, batch)
    wanted = target.tolist()
    if not wanted or wanted[0] in (0, -1) or wanted[0] % batch:
        return None
    if node.op_type == "Reshape" and -1 not in wanted:
        node.input[place] = graph.constant(f"{node.name}_shape", [-1, *wanted[1:]])
    else:
        _derive(graph, node, place, graph.input.name, [Part(0, 1, wanted[0] // batch), *wanted[1:]])
    return f"{describe(node)}: leading {wanted[0]} of {wanted} follows the batch"


def _leading_of_concat(graph: Graph, node: onnx.NodeProto, place: int, batch: int) -> str | None:
    """The same where a shape is put together at run time, its leading entry a constant."""
    maker = next((item for item in graph.graph.node if node.input[place] in item.output), None)
    if maker is None or maker.op_type != "Concat":
        return None
    value = graph.value(maker.input[0])
    if value is None or value.shape != (1,) or value[0] < 1 or value[0] % batch:
        return None
    maker.input[0] = _entry(graph, maker, graph.input.name, Part(0, 1, int(value[0]) // batch))
    return f"{describe(node)}: leading {value[0]} of its shape follows the batch"


def _resize(graph: Graph, node: onnx.NodeProto, known: dict[str, Shape], batch: int | None) -> str | None:
    """Sizes become scales where each is a whole multiple, which frees the batch and the sides."""
    if any(item.name in ("axes", "keep_aspect_ratio_policy") for item in node.attribute):
        return None  # sizes of some axes only, or bounds of them
    data, wanted = known.get(node.input[0]), known.get(node.output[0])
    constant = graph.value(node.input[3]) is not None or _ends_in_constant(graph, node.input[3])
    if not constant or not data or not wanted or None in data or None in wanted:
        return _leading(graph, node, 3, batch)
    if any(size % side for size, side in zip(wanted, data, strict=True)):  # type: ignore[operator]
        return _leading(graph, node, 3, batch)
    scales = np.array([size / side for size, side in zip(wanted, data, strict=True)], np.float32)  # type: ignore[operator]
    del node.input[3]
    node.input[2] = graph.constant(f"{node.name}_scales", scales)
    return f"{describe(node)}: sizes {wanted} became scales {scales.tolist()}"


def _ends_in_constant(graph: Graph, name: str) -> bool:
    """A shape put together at run time, its last entries constants."""
    maker = next((node for node in graph.graph.node if name in node.output), None)
    return maker is not None and maker.op_type == "Concat" and graph.value(maker.input[-1]) is not None


def _joined(graph: Graph, node: onnx.NodeProto, pixels: set[str]) -> bool:
    """A constant is expanded to be joined to the picture, where broadcasting does not help."""
    return node.input[0] not in pixels and any(
        item.op_type == "Concat" and node.output[0] in item.input and pixels.intersection(item.input)
        for item in graph.graph.node
    )


def _derive(graph: Graph, node: onnx.NodeProto, place: int, source: str, parts: list[int | Part]) -> None:
    """Compute the shape that is input `place` of a node from the shape of `source`."""
    entries = [
        _entry(graph, node, source, part) if isinstance(part, Part) else graph.constant(f"{node.name}_entry", [part])
        for part in parts
    ]
    name = f"{node.name}_sr_tile_shape"
    graph.insert_before(node, [helper.make_node("Concat", entries, [name], name=name, axis=0)])
    node.input[place] = name


def _entry(graph: Graph, node: onnx.NodeProto, source: str, part: Part) -> str:
    """Nodes that compute one entry of a shape, and the name of their result, of shape (1,)."""
    prefix = f"{node.name}_sr_tile_{part.start}_{part.stop}_{part.factor}_{len(graph.graph.node)}"
    start, stop = (graph.constant(f"{prefix}_{value}", [value]) for value in (part.start, part.stop))
    names = [f"{prefix}_{step}" for step in ("of", "slice", "product", "times")]
    nodes = [
        helper.make_node("Shape", [source], [names[0]], name=names[0]),
        helper.make_node("Slice", [names[0], start, stop], [names[1]], name=names[1]),
    ]
    last = names[1]
    if part.stop - part.start > 1:
        nodes.append(helper.make_node("ReduceProd", [last], [names[2]], name=names[2], keepdims=1))
        last = names[2]
    if part.factor != 1:
        factor = graph.constant(f"{prefix}_factor", [part.factor])
        nodes.append(helper.make_node("Mul", [last, factor], [names[3]], name=names[3]))
        last = names[3]
    graph.insert_before(node, nodes)
    return last
