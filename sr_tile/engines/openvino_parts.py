"""A network in fewer bits whose picture stays exact: cut where the picture goes in and where it comes out.

Networks that restore or enlarge add a correction to the picture, or to its interpolation:

    output = tail(skip(input) + body(input))

`skip` is linear and cheap: nothing, a repetition, a convolution that interpolates. In fewer bits it would round the picture,
which is what is seen; the body's share is small, and so is what rounding does to it. OpenVINO rounds all that a convolution
touches, so the network is cut in parts that run one after the other:

    prepare  float32     the picture as the first layer reads it, in two numbers: what 8 bits hold, and the rest
    body     fewer bits  a first layer that multiplies both, with weights in two numbers as well, and what is behind it
    finish   float32     the skip, its sum with the body, and the tail

The first layer thus computes to 16 bits, in a kernel for 8: x * w is (high + low) * (high' + low') without the last product.
It has three times the inputs, of which networks have few there.
"""

import math
from typing import Any, NamedTuple

import numpy as np

# What may stand between the sum and the output, and in the skip: moving values, and sums and products with constants.
_MOVING = {
    *("DepthToSpace", "SpaceToDepth", "Reshape", "Transpose", "Slice", "StridedSlice", "Squeeze", "Unsqueeze", "Pad"),
    *("Concat", "Split", "VariadicSplit", "Tile", "Broadcast", "Interpolate", "Convert", "Clamp", "ReverseSequence"),
    *("ShuffleChannels", "Gather", "Minimum", "Maximum", "Identity", "FakeQuantize"),
}
_WEIGHTED = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"}
_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide"}
_LARGEST_SKIP = 0.05  # of all weights
_HIGH = 128  # steps of the first number: bfloat16 holds 8 bits


class Part(NamedTuple):
    """One of the models that a network becomes; `exact` ones are for float32."""

    model: Any
    exact: bool


def parts_of(ops: Any, model_type: Any, model: Any, largest: float, *, is_narrow: bool) -> list[Part]:
    """The parts of a network; the picture is the first input of each, what one gives is the second of the next.

    Args:
        ops: the module `openvino.opset13`.
        model_type: `openvino.Model`.
        model: one input of fixed shape; it is used up.
        largest: of the picture's values.
        is_narrow: the layers multiply numbers of 8 bits and an exponent, not integers.
    """
    finish: list[Part] = []
    source, readers = _last_layer(model)
    if source.get_node().get_type_name() != "Parameter" and readers[0].get_node().get_type_name() != "Result":
        body = model_type([source], model.get_parameters()).clone()
        given = _parameter(ops, source)
        for reader in readers:
            reader.replace_source_output(given.output(0))
        last = model.outputs[0].get_node().input_value(0)
        finish = [Part(model_type([last], [*model.get_parameters(), given]), exact=True)]
        model = body
    if is_narrow and (layers := _first_layers(model)):
        source = layers[0].input_value(0)
        prepare = model_type([_in_two(ops, source, largest)], model.get_parameters()).clone()
        given = _parameter(ops, prepare.outputs[0])
        for layer in layers:
            weights = layer.input_value(1).get_node().get_data()
            layer.input(0).replace_source_output(given.output(0))
            layer.input(1).replace_source_output(ops.constant(_weights_in_two(weights)).output(0))
        last = model.outputs[0].get_node().input_value(0)
        model = model_type([last], [*model.get_parameters(), given])
        return [Part(prepare, exact=True), Part(model, exact=False), *finish]
    return [Part(model, exact=False), *finish]


def put_channels_last(ops: Any, model: Any) -> None:
    """Have its output, (n, c, h, w), come as (n, h, w, c) in float32: as kernels make it and files want it."""
    end = model.outputs[0].get_node().input(0)
    order = ops.constant(np.array([0, 2, 3, 1], np.int64))
    end.replace_source_output(ops.convert(ops.transpose(end.get_source_output(), order), "f32").output(0))
    model.validate_nodes_and_infer_types()


def _parameter(ops: Any, output: Any) -> Any:
    return ops.parameter(output.get_partial_shape(), output.get_element_type())


def _in_two(ops: Any, value_nchw: Any, largest: float) -> Any:
    """(high, low, high) along the channels; high + low is the value, and high a multiple of 1 / 128 of the range."""
    steps = ops.constant(np.float32(_HIGH / 2.0 ** math.ceil(math.log2(largest))))
    high = ops.divide(ops.round(ops.multiply(value_nchw, steps), "half_to_even"), steps)
    return ops.concat([high, ops.subtract(value_nchw, high), high], 1).output(0)


def _weights_in_two(weights: np.ndarray) -> np.ndarray:
    """(high, high, low) along the inputs of (out, in, y, x); high has the upper 16 of the 32 bits."""
    high = ((weights.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.concatenate([high, high, weights - high], axis=1)


def _last_layer(model: Any) -> tuple[Any, list[Any]]:
    """What the body gives, and the inputs that read it: what follows would round it to fewer bits, and only moves values."""
    reader = model.outputs[0].get_node().input(0)
    if found := _find_sum(model):
        reader = found[0].input(found[1])
    while (node := reader.get_source_output().get_node()).get_type_name() in _MOVING:
        ports = _data_inputs(node)
        if len(ports) != 1:
            break
        reader = node.input(ports[0])
    return reader.get_source_output(), [reader]


def _find_sum(model: Any) -> tuple[Any, int] | None:
    """The last sum of a skip and something else, and the input by which the latter comes; None where there is none."""
    weights = _weights(model.outputs[0].get_node())
    value = model.outputs[0].get_node().input_value(0)
    while True:
        node = value.get_node()
        kind, inputs = node.get_type_name(), _data_inputs(node)
        if kind in ("Add", "Subtract") and len(inputs) == 2:
            skips = [_is_linear(node.input_value(port).get_node(), int(_LARGEST_SKIP * weights)) for port in inputs]
            return (node, inputs[skips.index(False)]) if sorted(skips) == [False, True] else None
        if kind not in _MOVING | _ARITHMETIC or len(inputs) != 1:
            return None
        value = node.input_value(inputs[0])


def _first_layers(model: Any) -> list[Any]:
    """Convolutions that read the picture itself, all of them the same value; [] where there is none."""
    found = [
        node
        for node in model.get_ops()
        if node.get_type_name() == "Convolution"
        and node.input_value(1).get_node().get_type_name() == "Constant"
        and node.input_value(1).get_element_type().get_type_name() == "f32"
        and _is_linear(node.input_value(0).get_node(), 0)
    ]
    same = {(node.input_value(0).get_node().get_name(), node.input_value(0).get_index()) for node in found}
    return found if len(same) == 1 else []


def _data_inputs(node: Any) -> list[int]:
    """Inputs that hold pixels: numbers that depend on the picture, not on its shape."""
    return [port for port, value in enumerate(node.input_values()) if _reads_pixels(value.get_node())]


def _reads_pixels(node: Any) -> bool:
    """Whether a value depends on what the picture holds."""
    return any(found.get_type_name() == "Parameter" for found in _behind(node))


def _behind(node: Any) -> list[Any]:
    """All nodes that a value is made of; what follows from shapes ends at them."""
    seen: dict[str, Any] = {}
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.get_name() in seen:
            continue
        seen[one.get_name()] = one
        if one.get_type_name() != "ShapeOf":
            waiting.extend(value.get_node() for value in one.input_values())
    return list(seen.values())


def _weights(node: Any) -> int:
    """Numbers in the kernels of convolutions and products that a value is made of."""
    layers = [found for found in _behind(node) if found.get_type_name() in _WEIGHTED | {"MatMul"}]
    return sum(math.prod(layer.input_value(1).get_shape()) for layer in layers)


def _is_linear(node: Any, most_weights: int) -> bool:
    """Whether a value is the picture, moved, repeated or interpolated, by so many weights at most."""
    for found in _behind(node):
        kind = found.get_type_name()
        if kind in ("Parameter", "Constant", "ShapeOf") or kind in _MOVING or not _reads_pixels(found):
            continue
        if kind in _WEIGHTED and not _reads_pixels(found.input_value(1).get_node()):
            continue
        if kind not in _ARITHMETIC or len(_data_inputs(found)) > 1:
            return False
    return _weights(node) <= most_weights
