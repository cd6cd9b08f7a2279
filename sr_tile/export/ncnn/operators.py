"""ncnn's layers as ONNX operators: one function a layer, found by its name in `OPERATORS`.

A blob of ncnn is (C, H, W) or, behind a global pooling, a vector of C; here both are (N, C, H, W), a vector with H = W = 1.
So a vector meets a picture channel by channel, as ncnn broadcasts it.
Source of the parameters: https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sr_tile.export.graph_writer import GraphWriter
from sr_tile.export.ncnn.param import REST, Layer
from sr_tile.export.ncnn.weights import WeightReader, Weights

LARGEST = 2**31 - 1
LARGEST_FACTOR = 16
LOWEST = -3.4e38
SAME_UPPER, SAME_LOWER = -233, -234


@dataclass
class Context:
    """What a layer may ask for while it is converted.

    Attributes:
        graph: where its ONNX operators go.
        weights: where its numbers come from.
        vectors: blobs that are vectors.
    """

    graph: GraphWriter
    weights: WeightReader
    vectors: set[str] = field(default_factory=set)

    def is_vector(self, layer: Layer) -> bool:
        """True where all that a layer reads are vectors."""
        return bool(layer.bottoms) and self.vectors.issuperset(layer.bottoms)


Convert = Callable[[Context, Layer, list[str]], list[str]]
"""(context, layer, ONNX names of its inputs) to the ONNX names of its outputs."""


def activate(context: Context, layer: Layer, value: str) -> str:
    """The activation that a layer carries inside (parameters 9 and 10)."""
    kind, numbers, graph = layer.whole(9), layer.array(10), context.graph

    def number(place: int, default: float) -> float:
        return float(numbers[place]) if place < len(numbers) else default

    if kind == 5:
        return graph.op("Mul", value, graph.op("Tanh", graph.op("Softplus", value)))
    if kind == 6:
        return graph.op("Mul", value, graph.op("HardSigmoid", value, alpha=number(0, 1 / 6), beta=number(1, 0.5)))
    if kind == 3:
        return graph.op("Clip", value, graph.floats(number(0, LOWEST)), graph.floats(number(1, -LOWEST)))
    if kind == 2:
        return graph.op("LeakyRelu", value, alpha=number(0, 0.0))
    if kind not in (0, 1, 4):
        layer.refuse(f"carries activation {kind}, which is not known; known are 0 to 6")
    return value if kind == 0 else graph.op("Relu" if kind == 1 else "Sigmoid", value)


def _pads(layer: Layer) -> list[int]:
    """ONNX's (top, left, bottom, right) of parameters 4, 14, 15, 16, each by default what its neighbour is."""
    left = layer.whole(4)
    top = layer.whole(14, left)
    return [top, left, layer.whole(16, top), layer.whole(15, left)]


def _window(layer: Layer) -> dict[str, list[int]]:
    """Kernel, dilation and stride, (height, width) each."""
    pairs = {"kernel_shape": (11, 1, 0), "dilations": (12, 2, 1), "strides": (13, 3, 1)}
    window = {}
    for name, (high, wide, default) in pairs.items():
        width = layer.whole(wide, default)
        window[name] = [layer.whole(high, width), width]
        if min(window[name]) < 1:
            layer.refuse(f"{name} is {window[name]}; expected 1 or more")
    return window


def _kernel(context: Context, layer: Layer, group: int = 1) -> tuple[Weights, Weights | None]:
    """Weights (out, in / group, kh, kw) and bias (out,) of a convolution of any kind, int8 already scaled back."""
    out, size, (height, width) = layer.whole(0), layer.whole(6), _window(layer)["kernel_shape"]
    if layer.whole(19):
        layer.refuse("takes its weights from another blob, which is not supported")
    if out < 1 or size < 1 or size % (out * height * width) or out % max(group, 1):
        layer.refuse(f"{size} weights do not make {out} kernels of {height} x {width} in {group} groups")
    flat, is_int8 = context.weights.tagged(layer, size)
    bias = context.weights.plain(layer, out) if layer.whole(5) else None
    weights = flat.reshape(out, -1, height, width)
    term = layer.whole(8)
    if term:
        scales = context.weights.plain(layer, (1 if term in (2, 102) else group) if group > 1 else out)
        context.weights.plain(layer, 1)  # how its input is quantised: not needed, the input stays float
        if term > 100:
            context.weights.plain(layer, 1)
        if is_int8:
            if not np.all(scales):
                layer.refuse("has a scale of 0 for its int8 weights")
            weights = weights / np.repeat(scales, out // len(scales)).reshape(-1, 1, 1, 1)
    elif is_int8:
        layer.refuse("has int8 weights without their scales")
    return weights.astype(np.float32), bias


def convolution(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Convolution` and `ConvolutionDepthWise`."""
    group = layer.whole(7, 1) if layer.kind == "ConvolutionDepthWise" else 1
    if group < 1:
        layer.refuse(f"has {group} groups; expected 1 or more")
    weights, bias = _kernel(context, layer, group)
    attributes: dict[str, object] = {**_window(layer), "group": group}
    graph, value, pads = context.graph, inputs[0], _pads(layer)
    if pads[1] in (SAME_UPPER, SAME_LOWER):
        attributes["auto_pad"] = "SAME_UPPER" if pads[1] == SAME_UPPER else "SAME_LOWER"
    elif min(pads) < 0:
        layer.refuse(f"pads by {pads}; expected 0 or more")
    elif layer.real(18):  # a border of another value than 0
        value = graph.op("Pad", value, graph.ints(0, 0, *pads[:2], 0, 0, *pads[2:]), graph.floats(layer.real(18)))
    else:
        attributes["pads"] = pads
    names = [graph.floats(array) for array in (weights, bias) if array is not None]
    return [activate(context, layer, graph.op("Conv", value, *names, **attributes))]


def deconvolution(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Deconvolution`: a transposed convolution, whose result is cut by its padding."""
    weights, bias = _kernel(context, layer)
    pads = _pads(layer)
    if min(pads) < 0 or layer.whole(20) or layer.whole(21):
        layer.refuse("fixes the size of its output, so the network would take one size only")
    extra = [layer.whole(19), layer.whole(18)]
    names = [context.graph.floats(array) for array in (weights.transpose(1, 0, 2, 3), bias) if array is not None]
    value = context.graph.op(
        "ConvTranspose", inputs[0], *names, **_window(layer), pads=pads, output_padding=[extra[0], extra[1]]
    )
    return [activate(context, layer, value)]


def inner_product(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`InnerProduct` on a vector: a convolution of one pixel."""
    if not context.is_vector(layer):
        layer.refuse("multiplies a whole picture by a matrix, which fits one size only")
    out, size = layer.whole(0), layer.whole(2)
    if out < 1 or size < 1 or size % out:
        layer.refuse(f"{size} weights do not make {out} rows")
    flat, is_int8 = context.weights.tagged(layer, size)
    bias = context.weights.plain(layer, out) if layer.whole(1) else None
    weights = flat.reshape(out, -1, 1, 1)
    if layer.whole(8):
        scales = context.weights.plain(layer, out)
        context.weights.plain(layer, 1)
        if is_int8 and np.all(scales):
            weights = weights / scales.reshape(-1, 1, 1, 1)
    elif is_int8:
        layer.refuse("has int8 weights without their scales")
    names = [context.graph.floats(array) for array in (weights, bias) if array is not None]
    return [activate(context, layer, context.graph.op("Conv", inputs[0], *names, kernel_shape=[1, 1]))]


def prelu(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`PReLU`: one slope, or one a channel."""
    slopes = context.weights.plain(layer, layer.whole(0))
    return [context.graph.op("PRelu", inputs[0], context.graph.floats(slopes.reshape(-1, 1, 1)))]


def relu(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`ReLU`, leaky where it has a slope."""
    slope = layer.real(0)
    return [context.graph.op("LeakyRelu", inputs[0], alpha=slope) if slope else context.graph.op("Relu", inputs[0])]


def clip(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Clip`."""
    floats = context.graph.floats
    return [context.graph.op("Clip", inputs[0], floats(layer.real(0, LOWEST)), floats(layer.real(1, -LOWEST)))]


def scale(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Scale`: by a number a channel, or by another blob."""
    graph, size = context.graph, layer.whole(0)
    if size == REST:
        if len(inputs) != 2:
            layer.refuse("scales by a second blob, and reads one")
        return [graph.op("Mul", *inputs)]
    value = graph.op("Mul", inputs[0], graph.floats(context.weights.plain(layer, size).reshape(-1, 1, 1)))
    if layer.whole(1):
        value = graph.op("Add", value, graph.floats(context.weights.plain(layer, size).reshape(-1, 1, 1)))
    return [value]


def binary(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`BinaryOp`: two blobs, or a blob and a number."""
    kinds = {0: "Add", 1: "Sub", 2: "Mul", 3: "Div", 4: "Max", 5: "Min", 6: "Pow", 7: "Sub", 8: "Div", 9: "Pow"}
    kind = layer.whole(0)
    if kind not in kinds:
        layer.refuse(f"is operation {kind}, which is not supported; supported are 0 to 9")
    both = [inputs[0], context.graph.floats(layer.real(2))] if layer.whole(1) else inputs
    if len(both) != 2:
        layer.refuse(f"reads {len(both)} blobs; expected 2")
    return [context.graph.op(kinds[kind], *(reversed(both) if kind >= 7 else both))]


def unary(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`UnaryOp`."""
    graph, kind = context.graph, layer.whole(0)
    names = ["Abs", "Neg", "Floor", "Ceil", "", "Sqrt", "", "Exp", "Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan"]
    names += ["Reciprocal", "Tanh"]
    if kind == 4:
        return [graph.op("Mul", inputs[0], inputs[0])]
    if kind == 6:
        return [graph.op("Reciprocal", graph.op("Sqrt", inputs[0]))]
    if not 0 <= kind < len(names):
        layer.refuse(f"is operation {kind}, which is not supported; supported are 0 to {len(names) - 1}")
    return [graph.op(names[kind], inputs[0])]


def eltwise(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Eltwise`: product, weighted sum or maximum of blobs of one shape."""
    graph, kind, weights = context.graph, layer.whole(0), layer.array(1)
    if kind not in (0, 1, 2) or len(inputs) < 2 or (weights and len(weights) != len(inputs)):
        layer.refuse(f"is operation {kind} on {len(inputs)} blobs with {len(weights)} weights, which is not supported")
    if kind == 1 and weights:
        inputs = [
            value if weight == 1 else graph.op("Mul", value, graph.floats(weight))
            for value, weight in zip(inputs, weights, strict=True)
        ]
    result = inputs[0]
    for value in inputs[1:]:
        result = graph.op(("Mul", "Add", "Max")[kind], result, value)
    return [result]


def axis_of(context: Context, layer: Layer, axis: int) -> int:
    """ONNX's axis of one of ncnn's: 0 channels, 1 height, 2 width, or from behind; a vector has its channels only."""
    dimensions = 1 if context.is_vector(layer) else 3
    if not -dimensions <= axis < dimensions:
        layer.refuse(f"works along axis {axis} of {dimensions}")
    return axis % dimensions + 1


def concat(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Concat`."""
    return [context.graph.op("Concat", *inputs, axis=axis_of(context, layer, layer.whole(0)))]


def copy(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Split`, which hands one blob to several readers, and layers that do nothing when a network runs."""
    if len(inputs) != 1:
        layer.refuse(f"reads {len(inputs)} blobs; expected 1")
    return inputs * len(layer.tops)


def cut(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Slice`: a blob in pieces, of given lengths, from given places, or equal ones."""
    graph, axis = context.graph, axis_of(context, layer, layer.whole(1))
    lengths, places, count = layer.wholes(0), layer.wholes(2), len(layer.tops)
    if places:
        edges = [0, *places, LARGEST]
    elif len(lengths) == count and REST not in lengths[:-1]:
        edges = [0, *np.cumsum(lengths[:-1]).tolist(), LARGEST if lengths[-1] == REST else sum(lengths)]
    elif lengths and all(length == REST for length in lengths):
        return graph.ops("Split", inputs[0], outputs=count, axis=axis, num_outputs=count)
    else:
        layer.refuse(f"cuts {count} pieces of lengths {lengths}, which is not supported")
    if len(edges) != count + 1:
        layer.refuse(f"cuts {len(edges) - 1} pieces for {count} blobs")
    return [
        graph.op("Slice", inputs[0], graph.ints(first), graph.ints(end), graph.ints(axis))
        for first, end in itertools.pairwise(edges)
    ]


def crop(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Crop`: to the size of a second blob, from starts to ends, or by offsets and sizes."""
    graph = context.graph
    starts, ends, axes = layer.wholes(9), layer.wholes(10), layer.wholes(11)
    offsets = [layer.whole(number) for number in (2, 1, 0)]  # channels, height, width
    if len(inputs) == 2:
        sizes = graph.op("Shape", inputs[1], start=1, end=4)
        first = graph.ints(*offsets)
        return [graph.op("Slice", inputs[0], first, graph.op("Add", first, sizes), graph.ints(1, 2, 3))]
    if starts:
        axes = axes or list(range(len(starts)))
        if len(starts) != len(ends) or len(starts) != len(axes):
            layer.refuse(f"has {len(starts)} starts, {len(ends)} ends and {len(axes)} axes")
        places = graph.ints(*(axis_of(context, layer, axis) for axis in axes))
        last = graph.ints(*(LARGEST if end == REST else end for end in ends))
        return [graph.op("Slice", inputs[0], graph.ints(*starts), last, places)]
    kept = [layer.whole(number, REST) for number in (5, 4, 3)]
    behind = [layer.whole(number) for number in (8, 7, 6)]
    ends = [
        offset + size if size != REST else (-end if end else LARGEST)
        for offset, size, end in zip(offsets, kept, behind, strict=True)
    ]
    return [graph.op("Slice", inputs[0], graph.ints(*offsets), graph.ints(*ends), graph.ints(1, 2, 3))]


def interp(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Interp`: nearest, bilinear or bicubic, by factors or to the size of a second blob."""
    graph, kind = context.graph, layer.whole(0)
    if kind not in (1, 2, 3):
        layer.refuse(f"interpolates by method {kind}; supported are 1 nearest, 2 bilinear, 3 bicubic")
    attributes: dict[str, object] = {"mode": ("nearest", "linear", "cubic")[kind - 1]}
    if kind == 1:
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        attributes["coordinate_transformation_mode"] = "align_corners" if layer.whole(6) else "half_pixel"
    if len(inputs) == 2:
        sizes = graph.op("Concat", *(graph.op("Shape", v, start=s, end=e) for v, s, e in _sizes(inputs)), axis=0)
        return [graph.op("Resize", inputs[0], "", "", sizes, **attributes)]
    factors = [layer.real(1, 1.0), layer.real(2, 1.0)]
    if layer.whole(3) or layer.whole(4) or not all(factor > 0 for factor in factors):
        layer.refuse("fixes the size of its output, so the network would take one size only")
    if max(factors) > LARGEST_FACTOR:
        layer.refuse(
            f"enlarges by {max(factors):g}; expected at most {LARGEST_FACTOR}: no network of pictures does more"
        )
    return [graph.op("Resize", inputs[0], "", graph.floats([1, 1, *factors]), **attributes)]


def _sizes(inputs: list[str]) -> list[tuple[str, int, int]]:
    """Batch and channels of the first, height and width of the second."""
    return [(inputs[0], 0, 2), (inputs[1], 2, 4)]


def pixel_shuffle(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`PixelShuffle`: channels to pixels."""
    mode, factor = "DCR" if layer.whole(1) else "CRD", layer.whole(0, 1)
    if not 1 <= factor <= LARGEST_FACTOR:
        layer.refuse(f"enlarges by {factor}; expected 1 to {LARGEST_FACTOR}")
    return [context.graph.op("DepthToSpace", inputs[0], blocksize=factor, mode=mode)]


def reorg(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Reorg`: pixels to channels; channel by channel (mode 0), as Torch does, or pixel by pixel, as ONNX does."""
    graph, stride = context.graph, layer.whole(0, 1)
    if not 1 <= stride <= 64:
        layer.refuse(f"has stride {stride}; expected 1 to 64")
    if layer.whole(1):
        return [graph.op("SpaceToDepth", inputs[0], blocksize=stride)]
    size = graph.op("Div", graph.size(inputs[0]), graph.ints(stride))
    high, wide = (graph.op("Slice", size, graph.ints(i), graph.ints(i + 1), graph.ints(0)) for i in (0, 1))
    side, rest = graph.ints(stride), graph.ints(-1)
    split = graph.op("Concat", graph.ints(0, 0), high, side, wide, side, axis=0)
    split = graph.op("Reshape", inputs[0], split)  # (n, c, h / s, s, w / s, s)
    turned = graph.op("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    return [graph.op("Reshape", turned, graph.op("Concat", graph.ints(0), rest, high, wide, axis=0))]


def padding(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Padding` of height and width."""
    top, bottom, left, right = (layer.whole(number) for number in range(4))
    kind = layer.whole(4)
    if min(top, bottom, left, right) < 0 or kind not in (0, 1, 2) or layer.whole(6) or layer.whole(7) or layer.whole(8):
        layer.refuse("pads in a way that is not supported; supported are sides by a number, their edge or reflection")
    graph = context.graph
    pads = graph.ints(0, 0, top, left, 0, 0, bottom, right)
    value = [graph.floats(layer.real(5))] if kind == 0 else []
    return [graph.op("Pad", inputs[0], pads, *value, mode=("constant", "edge", "reflect")[kind])]


def pooling(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Pooling`: maximum or mean, over windows or over the whole picture."""
    graph, mean = context.graph, layer.whole(0)
    if mean not in (0, 1) or layer.whole(7):
        layer.refuse("pools in a way that is not supported; supported are maximum and mean, not adaptive")
    if layer.whole(4):
        context.vectors.update(layer.tops)
        return [graph.op("GlobalAveragePool" if mean else "GlobalMaxPool", inputs[0])]
    width, stride = layer.whole(1), layer.whole(2, 1)
    attributes: dict[str, object] = {
        "kernel_shape": [layer.whole(11, width), width],
        "strides": [layer.whole(12, stride), stride],
    }
    mode, left = layer.whole(5), layer.whole(3)
    if mode in (2, 3):
        attributes["auto_pad"] = "SAME_UPPER" if mode == 2 else "SAME_LOWER"
    else:
        top = layer.whole(13, left)
        attributes["pads"] = [top, left, layer.whole(15, top), layer.whole(14, left)]
        attributes["ceil_mode"] = int(mode == 0)
    if mean:
        attributes["count_include_pad"] = int(bool(layer.whole(6)))
    if min(width, stride) < 1:
        layer.refuse(f"pools windows of {width} in steps of {stride}; expected 1 or more")
    return [graph.op("AveragePool" if mean else "MaxPool", inputs[0], **attributes)]


def reshape(context: Context, layer: Layer, inputs: list[str]) -> list[str]:
    """`Reshape` and `Permute` where they leave a blob as it is: a vector that gets sides of 1, or no change of order."""
    is_idle = layer.kind == "Permute" and layer.whole(0) == 0
    sides = [layer.whole(number, REST) for number in (0, 1, 2)]
    if not is_idle and not (layer.kind == "Reshape" and context.is_vector(layer) and sides.count(1) >= 2):
        layer.refuse("orders a whole picture anew, which fits one size only")
    return copy(context, layer, inputs)


OPERATORS: dict[str, Convert] = {
    "BinaryOp": binary,
    "Clip": clip,
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthWise": convolution,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "Dropout": copy,
    "Eltwise": eltwise,
    "InnerProduct": inner_product,
    "Interp": interp,
    "Noop": copy,
    "PReLU": prelu,
    "Padding": padding,
    "Permute": reshape,
    "PixelShuffle": pixel_shuffle,
    "Pooling": pooling,
    "ReLU": relu,
    "Reorg": reorg,
    "Reshape": reshape,
    "Scale": scale,
    "Sigmoid": lambda context, layer, inputs: [context.graph.op("Sigmoid", inputs[0])],
    "Slice": cut,
    "Split": copy,
    "TanH": lambda context, layer, inputs: [context.graph.op("Tanh", inputs[0])],
    "UnaryOp": unary,
}
