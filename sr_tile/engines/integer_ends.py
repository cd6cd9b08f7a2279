"""Pixels in and pixels out: what makes numbers of them and rounds these again, as operators at both ends of a graph.

One byte a value goes to a device and one comes back, in place of four each, and none of it is work for the processor.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_tile.tiling.blending import largest_value, to_range

if TYPE_CHECKING:
    import onnx

OLDEST = 11  # operator set: since then there is Round, and Clip takes its bounds as inputs
_LARGEST = 2**31  # bytes of a model in memory


def as_floats(pixels: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Pixels as the floats of a model's range; floats are left as they are."""
    if pixels.dtype.kind != "u":
        return pixels
    return to_range(np.divide(pixels, np.float32(largest_value(pixels.dtype)), dtype=np.float32), value_range)


def alike(outputs: Sequence[np.ndarray], value_range: tuple[float, float]) -> Sequence[np.ndarray]:
    """Outputs of one number type: all are floats where some are."""
    same = len({output.dtype for output in outputs}) == 1
    return outputs if same else [as_floats(output, value_range) for output in outputs]


def with_integer_ends(
    model: "onnx.ModelProto", ends: tuple[str, str], value_range: tuple[float, float], dtype: np.dtype
) -> bytes | None:
    """The model for pixels, with the arithmetic of `as_floats` before it, and that of `blending.quantise` behind it.

    Args:
        model: in float32 or float16; it is changed.
        ends: names of its input and output.
        value_range: its values of black and white.
        dtype: of the pixels, uint8 or uint16.

    Returns:
        A serialised model with one input and two outputs: the pixels, (n, H, W, c) as files and arrays have them, which the
        processor then copies by rows; and the sum of each row's numbers before they were rounded, (n, 1, 1, 1), float32,
        which is none where one of these is none. None for a model with operators too old for that, or larger than the
        2 GiB that a model in memory may have.
    """
    from onnx import TensorProto, helper

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST:
        return None
    graph, white, (low, high) = model.graph, largest_value(dtype), value_range
    source = next(value for value in graph.input if value.name == ends[0])
    target = next(value for value in graph.output if value.name == ends[1])
    pixel_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    is_unit, wide, axes = (low, high) == (0.0, 1.0), ("Cast", {"to": TensorProto.FLOAT}), [1, 2, 3]
    to_range = [] if is_unit else [("Mul", high - low), ("Add", low)]
    to_unit = [] if is_unit else [("Sub", low), ("Div", high - low)]
    before = [wide, ("Div", white), *to_range, ("Cast", {"to": source.type.tensor_type.elem_type})]
    behind = [*to_unit, ("Mul", white), ("Round",), ("Clip", 0, white), ("Cast", {"to": pixel_type})]
    behind.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    nodes = [
        *_chain("sr_tile_in", before, ends[0]),
        *graph.node,
        *_chain(ends[1], [wide], "sr_tile_numbers"),
        *_chain("sr_tile_numbers", [("ReduceSum", axes if opset >= 13 else {"axes": axes})], "sr_tile_sums"),
        *_chain("sr_tile_numbers", behind, "sr_tile_out"),
    ]
    others = [value for value in graph.input if value.name != ends[0]]
    for value, name in ((source, "sr_tile_in"), (target, "sr_tile_out")):
        value.name, value.type.tensor_type.elem_type = name, pixel_type
    if sides := list(target.type.tensor_type.shape.dim):
        del target.type.tensor_type.shape.dim[:]
        target.type.tensor_type.shape.dim.extend(sides[place] for place in (0, 2, 3, 1))
    outputs = [target, helper.make_tensor_value_info("sr_tile_sums", TensorProto.FLOAT, [None, 1, 1, 1])]
    for kept, new in ((graph.input, [source, *others]), (graph.output, outputs), (graph.node, nodes)):
        del kept[:]
        kept.extend(new)
    return model.SerializeToString() if model.ByteSize() < _LARGEST else None


def _chain(first: str, steps: Sequence[tuple[Any, ...]], last: str) -> list["onnx.NodeProto"]:
    """Operators from one value to another: names, each with its attributes or with what else goes into it."""
    from onnx import helper, numpy_helper

    nodes, value = [], first
    for number, (kind, *rest) in enumerate(steps):
        output = last if number == len(steps) - 1 else f"{last}_{number}"
        attributes, inputs = (rest[0], []) if rest and isinstance(rest[0], dict) else ({}, rest)
        names = [f"{output}_{place}" for place in range(len(inputs))]
        for name, given in zip(names, inputs, strict=True):
            array = np.asarray(given, np.int64 if isinstance(given, list) else np.float32)
            nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name)))
        nodes.append(helper.make_node(kind, [value, *names], [output], name=output, **attributes))
        value = output
    return nodes
