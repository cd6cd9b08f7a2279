"""A graph cut behind each level of pooling over the whole picture.

Segment k holds what depends on k poolings one after the other. It reads what earlier segments have left, and the means of
the poolings before it, which by then are known of the whole picture.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sr_tile.errors import ArgumentError

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Pooling:
    """The mean of `source` over `axes`, which is called `target`."""

    source: str
    target: str
    axes: Axes
    keeps_axes: bool


@dataclass(frozen=True)
class Segment:
    """A part of a graph.

    Attributes:
        model: serialised; without content where nothing but poolings is left of it.
        inputs: what it reads.
        outputs: what it gives: for later segments, for `poolings`, or for the caller.
        kept: those of the outputs that are read later.
        poolings: to be done with its inputs or outputs.
        nodes: names of all tensors that it makes.
    """

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kept: frozenset[str]
    poolings: tuple[Pooling, ...]
    nodes: tuple[str, ...]


def find_poolings(model: Any, spatial: Mapping[str, Axes]) -> list[Pooling]:
    """All means over the whole picture in a graph.

    Args:
        model: an `onnx.ModelProto`.
        spatial: the axes of each tensor along which it follows the picture.
    """
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    found = []
    for node in model.graph.node:
        axes = spatial.get(node.input[0], ()) if node.input else ()
        if len(axes) != 2:
            continue
        if node.op_type == "GlobalAveragePool":
            found.append(Pooling(node.input[0], node.output[0], axes, keeps_axes=True))
        elif node.op_type == "ReduceMean":
            said = {attribute.name: attribute for attribute in node.attribute}
            over = list(said["axes"].ints) if "axes" in said else constants.get(node.input[1] if node.input[1:] else "")
            if over is not None and sorted(int(axis) % 4 for axis in over) == sorted(axes):
                keeps = said["keepdims"].i if "keepdims" in said else 1
                found.append(Pooling(node.input[0], node.output[0], axes, keeps_axes=bool(keeps)))
    return found


def cut(model: Any, poolings: list[Pooling], ranks: Mapping[str, int], spatial: Collection[str]) -> list[Segment]:
    """The segments of a graph, in their order; the last one gives the graph's first output.

    Args:
        model: an `onnx.ModelProto`.
        poolings: of `find_poolings`.
        ranks: axes of each tensor.
        spatial: tensors that follow the picture along two axes. What another shape of one is, is made anew where it is
            read, for only these can be kept.

    Raises:
        ArgumentError: the graph branches or loops.
    """
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        raise ArgumentError("--exact-pooling: the graph has branches or loops inside, which cannot be cut")
    static = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:  # what follows from shapes alone is different for each tile, and computed anew
        if node.op_type in ("Constant", "Shape", "Size") or all(name in static for name in node.input):
            static.update(node.output)
    by_target = {pooling.target: pooling for pooling in poolings}
    level = {item.name: 0 for item in graph.input if item.name not in static}
    for node in graph.node:
        deepest = max((level[name] for name in node.input if name in level), default=0)
        if node.output[0] not in static:
            level.update(dict.fromkeys(node.output, deepest + (node.output[0] in by_target)))
    count = 1 + max(level.values())
    parts = []
    makers = {name: node for node in graph.node for name in node.output}
    reshaped = {node.output[0] for node in graph.node if node.op_type == "Reshape"} - set(spatial)
    for index in range(count):
        own = [
            node.output[0]
            for node in graph.node
            if level.get(node.output[0]) == index and node.output[0] not in by_target
        ]
        earlier = {name for name, depth in level.items() if depth < index} - reshaped
        parts.append(_needed(own, earlier | by_target.keys(), set(level), makers))
    return [_segment(model, parts, index, level, poolings, ranks) for index in range(count)]


@dataclass(frozen=True)
class _Part:
    """Positions of nodes, by their first output, and names that they read from elsewhere."""

    made: frozenset[str]
    read: frozenset[str]


def _needed(own: list[str], there: set[str], dynamic: set[str], makers: Any) -> _Part:
    """What is made for `own`, from what is `there`."""
    made: set[str] = set()
    read: set[str] = set()
    waiting = list(own)
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in there:
            if name in dynamic:
                read.add(name)
        elif node.output[0] not in made:
            made.add(node.output[0])
            waiting.extend(item for item in node.input if item)
    return _Part(frozenset(made), frozenset(read))


def _segment(
    model: Any,
    parts: list[_Part],
    index: int,
    level: dict[str, int],
    poolings: list[Pooling],
    ranks: Mapping[str, int],
) -> Segment:
    from onnx import TensorProto, helper

    graph, part = model.graph, parts[index]
    nodes = [node for node in graph.node if node.output[0] in part.made]
    own = {name for node in nodes for name in node.output if level.get(name) == index}
    last = index == len(parts) - 1
    kept = own & {name for later in parts[index + 1 :] for name in later.read}
    here = tuple(pooling for pooling in poolings if level[pooling.source] == index)
    outputs = kept | {pooling.source for pooling in here if pooling.source in own}
    kept |= {graph.output[0].name} if last else set()
    outputs |= {graph.output[0].name} if last else set()
    inputs = sorted(part.read | ({pooling.source for pooling in here} - own))
    used = {name for node in nodes for name in node.input}
    small = helper.make_graph(
        nodes,
        f"segment {index}",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * ranks[name])
            for name in inputs
            if name in used
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * ranks[name]) for name in sorted(outputs)],
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    made = helper.make_model(small, opset_imports=model.opset_import, ir_version=model.ir_version)
    content = made.SerializeToString() if outputs else b""
    return Segment(content, tuple(inputs), tuple(sorted(outputs)), frozenset(kept), here, tuple(sorted(own)))
