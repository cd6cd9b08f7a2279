"""Channels of one layer brought nearer to one range, so that the steps of 8 bits are as fine for the small ones.

ReLU lets a positive factor through: what one convolution divides its output by, the next multiplies its weights by. Source:
Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sr_tile.export.precision.compare import values_inside

if TYPE_CHECKING:
    import onnx

_SMALLEST = 1e-3  # of the largest channel: smaller ones are taken for as large


def equalise(model: "onnx.ModelProto", pictures: Sequence[np.ndarray]) -> None:
    """Change the weights, but for rounding not the results, of convolutions that follow each other by ReLU alone."""
    pairs = _pairs(model)
    if not pairs:
        return
    values_of = values_inside(model, [second.input[0] for _, second in pairs])
    peaks: dict[str, np.ndarray] = {}
    for picture in pictures:
        for name, values in values_of(picture).items():
            peaks[name] = np.maximum(peaks.get(name, 0), np.abs(values).max(axis=(0, 2, 3)))
    for first, second in pairs:
        peak = peaks[second.input[0]]
        if peak.max() > 0:
            factors = np.sqrt(np.maximum(peak / peak.max(), _SMALLEST)).astype(np.float32)
            for name in first.input[1:]:
                _multiply(model, name, 1 / factors)
            _multiply(model, second.input[1], factors[None])


def _pairs(model: "onnx.ModelProto") -> list[tuple["onnx.NodeProto", "onnx.NodeProto"]]:
    """Convolutions with nothing but ReLU between them, whose weights nothing else reads."""
    readers = Counter(name for node in model.graph.node for name in node.input)
    readers.update(value.name for value in model.graph.output)
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    pairs = []
    for second in model.graph.node:
        relu = made.get(second.input[0]) if second.op_type == "Conv" and not has_groups(second) else None
        first = made.get(relu.input[0]) if relu is not None and relu.op_type in ("Relu", "LeakyRelu") else None
        if relu is None or first is None or first.op_type != "Conv":
            continue
        weights = [*first.input[1:], second.input[1]]
        alone = all(readers[name] == 1 for name in (relu.input[0], relu.output[0], *weights))
        if alone and constants.issuperset(weights):
            pairs.append((first, second))
    return pairs


def has_groups(node: "onnx.NodeProto") -> bool:
    """Whether each output of a convolution reads a part of its inputs only."""
    return any(item.name == "group" and item.i > 1 for item in node.attribute)


def _multiply(model: "onnx.ModelProto", name: str, factors: np.ndarray) -> None:
    """Multiply a constant by factors along its first axes."""
    from onnx import numpy_helper

    (tensor,) = (found for found in model.graph.initializer if found.name == name)
    values = numpy_helper.to_array(tensor)
    factors = factors.reshape(factors.shape + (1,) * (values.ndim - factors.ndim))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values * factors), name))
