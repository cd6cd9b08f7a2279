"""SCUNet written for ONNX Runtime: the published weights, the same function, few passes over memory.

Source: Zhang et al., "Practical blind denoising via Swin-Conv-UNet and data synthesis", 2022 (Apache-2.0).

The convolutional half of a block works on planes (B, C, H, W), the transformer half on tokens in the order of their
windows. One Gather takes the tokens into that order, shift included, and one takes them back; its indices depend on
the size alone and are computed once per resolution. The mask of shifted windows is a small table added to the scores.
Folded at export: scale and shift of the normalisations, the biases behind them, the scale of the scores, the relative
positions, and two biases that a softmax makes redundant: that of the keys adds the same to every score of a row, and
that of the values passes through unchanged, as every row of weights sums to one.
"""

from __future__ import annotations

import numpy as np
import onnx

from sr_tile.export.architectures.network import State
from sr_tile.export.architectures.scunet.size import EPSILON, HEAD, LEVELS, MULTIPLE, STAGES, WINDOW, SCUNetSize
from sr_tile.export.architectures.tokens import after_norm, normalise
from sr_tile.export.graph_writer import Array, GraphWriter

AREA = WINDOW * WINDOW
FORBIDDEN = -1e4
"""Added to a score that is masked: its exponential is exactly zero, and no infinity can turn into a NaN."""


def build_graph(state: State, size: SCUNetSize, opset: int) -> onnx.ModelProto:
    """Write the graph: (batch, channels, height, width), range [0, 1], any size from 1 x 1, to the same size.

    Args:
        state: checked weights.
        size: what `infer` returned for them.
        opset: version of the standard operator set.
    """
    return _Writer(state, size, opset).write()


class _Writer:
    def __init__(self, state: State, size: SCUNetSize, opset: int) -> None:
        self.size = size
        self.weights = {name: np.asarray(value, np.float64) for name, value in state.items()}
        self.biased = any(name.endswith(".bias") and value.any() for name, value in self.weights.items())
        self.graph = GraphWriter("scunet", size.channels, opset)
        self.padded = self.graph.pad_to_multiple(self.graph.input, MULTIPLE, "edge")
        self.positions = WindowPositions(self.graph, self.padded)

    def write(self) -> onnx.ModelProto:
        graph, weights, dim = self.graph, self.weights, self.size.dim
        planes = self._conv(self.padded, weights["m_head.0.weight"], None, 0)
        skips: list[str] = []
        for i, (stage, level, blocks) in enumerate(zip(STAGES, LEVELS, self.size.config, strict=True)):
            if i > 3:
                planes = self._up(self._add(planes, skips.pop(), 2 * dim << level, level + 1), stage, level)
            else:
                skips.append(planes)
            for block in range(blocks):
                planes = self._block(planes, f"{stage}.{block + int(i > 3)}.", level, shifted=block % 2 == 1)
            if i < 3:
                planes = graph.conv(planes, weights[f"{stage}.{blocks}.weight"], stride=2)
                graph.declare(planes, 2 * dim << level, level + 1)
        planes = self._add(planes, skips.pop(), dim, 0)
        return graph.model(graph.crop(graph.conv(planes, weights["m_tail.0.weight"]), like=graph.input))

    def _conv(self, planes: str, weight: Array, bias: Array | None, level: int, groups: int = 1) -> str:
        return self.graph.declare(self.graph.conv(planes, weight, bias, groups=groups), weight.shape[0], level)

    def _add(self, a: str, b: str, width: int, level: int) -> str:
        return self.graph.declare(self.graph.op("Add", a, b), width, level)

    def _up(self, planes: str, stage: str, level: int) -> str:
        """2 x 2 transposed convolution of stride 2, as a 1 x 1 convolution and a pixel shuffle."""
        graph, weight = self.graph, self.weights[f"{stage}.0.weight"]
        deep, width = weight.shape[:2]
        planes = graph.conv(planes, weight.transpose(1, 2, 3, 0).reshape(4 * width, deep, 1, 1))
        planes = graph.op("DepthToSpace", planes, blocksize=2, mode="CRD")
        # Multiplying by one brings the picture back into the blocked layout, once for all its readers.
        return self._conv(planes, np.ones((width, 1, 1, 1)), None, level, groups=width)

    def _block(self, planes: str, prefix: str, level: int, shifted: bool) -> str:
        graph, width = self.graph, self.size.dim << level
        half = width // 2
        first, first_bias, last, last_bias, kernel_a, kernel_b = (
            self.weights[prefix + name]
            for name in (
                *("conv1_1.weight", "conv1_1.bias", "conv1_2.weight", "conv1_2.bias"),
                *("conv_block.0.weight", "conv_block.2.weight"),
            )
        )
        left = self._conv(planes, first[:half], first_bias[:half], level)
        right = self._conv(planes, first[half:], first_bias[half:], level)
        inner = graph.declare(graph.op("Relu", self._conv(left, kernel_a, None, level)), half, level)
        left = self._add(self._conv(inner, kernel_b, None, level), left, half, level)
        right = self._transformer(graph.to_tokens(right), f"{prefix}trans_block.", level, shifted)
        right = graph.declare(graph.to_planes(right), half, level)
        # The bias that ends the transformer passes linearly through the convolution behind it.
        bias = last_bias + last[:, half:, 0, 0] @ self.weights[f"{prefix}trans_block.mlp.2.bias"]
        planes = self._add(self._conv(left, last[:, :half], bias, level), planes, width, level)
        return self._add(self._conv(right, last[:, half:], None, level), planes, width, level)

    def _transformer(self, tokens: str, prefix: str, level: int, shifted: bool) -> str:
        """Attention and MLP on tokens (B, H, W, C), without the bias of the last layer."""
        graph, width = self.graph, self.size.dim << level >> 1
        there, back = self.positions.orders(level, shifted)
        original = graph.op("Shape", tokens)
        tokens = graph.op("Reshape", tokens, graph.ints(0, -1, width))
        tokens = graph.op("Gather", tokens, there, axis=1)
        tokens = self._attention(tokens, f"{prefix}msa.", prefix, level, shifted)
        get = self._get(prefix)
        wide = after_norm(get("mlp.0.weight"), get("mlp.0.bias"), get("ln2.weight"), get("ln2.bias"))
        hidden = self._gelu(graph.linear(normalise(graph, tokens, width, EPSILON, self.biased), wide))
        tokens = graph.op("Add", graph.linear(hidden, get("mlp.2.weight")), tokens)
        return graph.op("Reshape", graph.op("Gather", tokens, back, axis=1), original)

    def _gelu(self, value: str) -> str:
        """X (1 + erf(x / sqrt 2)) / 2, in the form that runtimes know how to fuse."""
        graph = self.graph
        spread = graph.op("Erf", graph.op("Div", value, graph.floats(2**0.5)))
        return graph.op("Mul", graph.op("Mul", value, graph.op("Add", spread, graph.floats(1))), graph.floats(0.5))

    def _attention(self, tokens: str, prefix: str, norms: str, level: int, shifted: bool) -> str:
        """Tokens (B, H * W, C) in window order, plus their attention inside each window."""
        graph, get, width = self.graph, self._get(prefix), self.size.dim << level >> 1
        heads = width // HEAD
        gamma, beta = self.weights[f"{norms}ln1.weight"], self.weights[f"{norms}ln1.bias"]
        query, key, value = np.split(get("embedding_layer.weight"), 3)
        query_bias, _, value_bias = np.split(get("embedding_layer.bias"), 3)
        source = normalise(graph, tokens, width, EPSILON, self.biased)
        parts = [
            self._heads(source, after_norm(query, query_bias, gamma, beta) * HEAD**-0.5, heads),
            self._heads(source, after_norm(key, -key @ beta, gamma, beta), heads),
            self._heads(source, after_norm(value, -value @ beta, gamma, beta), heads),
        ]
        scores = graph.op("MatMul", parts[0], graph.op("Transpose", parts[1], perm=[0, 1, 3, 2]))
        scores = self._place(scores, relative_positions(get("relative_position_params")), level, shifted)
        mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), parts[2])
        if heads > 1:
            mixed = graph.op("Transpose", mixed, perm=[1, 2, 0, 3])
        mixed = graph.op("Reshape", mixed, graph.op("Shape", tokens))
        output = get("linear.weight")
        bias = get("linear.bias") + output @ (value_bias + value @ beta)
        return graph.op("Add", graph.op("Add", graph.linear(mixed, output), tokens), graph.floats(bias))

    def _heads(self, source: str, matrix: Array, heads: int) -> str:
        """(heads, B * windows, 64, 32): a product per head leaves the heads apart, with nothing to transpose."""
        graph, width = self.graph, matrix.shape[1]
        if heads == 1:
            product = graph.linear(source, matrix)
        else:
            per_head = graph.floats(matrix.reshape(heads, HEAD, width).transpose(0, 2, 1))
            product = graph.op("MatMul", graph.op("Reshape", source, graph.ints(1, -1, width)), per_head)
        return graph.op("Reshape", product, graph.ints(heads, -1, AREA, HEAD))

    def _place(self, scores: str, bias: Array, level: int, shifted: bool) -> str:
        """Add relative positions and, in shifted windows, the mask, to scores (heads, B * windows, 64, 64)."""
        graph, heads = self.graph, bias.shape[0]
        if not shifted:
            return graph.op("Add", scores, graph.floats(bias[:, None]))
        table = graph.op("Add", self.positions.mask(level), graph.floats(bias[:, None, None]))
        windows = graph.op("Shape", table, start=2, end=3)
        shape = graph.op("Concat", graph.ints(heads, -1), windows, graph.ints(AREA, AREA), axis=0)
        scores = graph.op("Add", graph.op("Reshape", scores, shape), table)
        return graph.op("Reshape", scores, graph.ints(heads, -1, AREA, AREA))

    def _get(self, prefix: str):  # type: ignore[no-untyped-def]
        return lambda name: self.weights[prefix + name]


def relative_positions(table: Array) -> Array:
    """Spread a table (heads, 15, 15) over all pairs of positions in a window: (heads, 64, 64)."""
    row, column = np.divmod(np.arange(AREA), WINDOW)
    rows, columns = (a[:, None] - a[None, :] + WINDOW - 1 for a in (row, column))
    return table[:, rows, columns]


class WindowPositions:
    """What depends on the size of the padded picture alone, written into the graph once per resolution."""

    def __init__(self, graph: GraphWriter, padded: str) -> None:
        self._graph, self._padded = graph, padded
        self._orders: dict[tuple[int, bool], tuple[str, str]] = {}
        self._masks: dict[int, str] = {}

    def orders(self, level: int, shifted: bool) -> tuple[str, str]:
        """Indices that take row-major tokens into window order, and back; shifted windows start 4 pixels further on."""
        if (level, shifted) not in self._orders:
            graph = self._graph
            height, width = graph.sides(self._padded, level)
            window = graph.ints(WINDOW)
            y, x = self._range(height), self._range(width)
            shift = WINDOW // 2 if shifted else 0
            rows = graph.op(
                "Reshape", graph.op("Mul", self._roll(y, height, shift), width), graph.ints(-1, 1, WINDOW, 1)
            )
            columns = graph.op("Reshape", self._roll(x, width, shift), graph.ints(1, -1, 1, WINDOW))
            there = graph.op("Reshape", graph.op("Add", rows, columns), graph.ints(-1))
            y, x = self._roll(y, height, -shift), self._roll(x, width, -shift)
            row_of_windows = graph.op("Mul", graph.op("Div", y, window), graph.op("Mul", width, window))
            rows = graph.op("Add", row_of_windows, graph.op("Mul", graph.op("Mod", y, window), window))
            one_window = graph.op("Mul", graph.op("Div", x, window), graph.ints(AREA))
            columns = graph.op("Add", one_window, graph.op("Mod", x, window))
            back = graph.op("Add", graph.op("Unsqueeze", rows, graph.ints(1)), columns)
            self._orders[level, shifted] = there, graph.op("Reshape", back, graph.ints(-1))
        return self._orders[level, shifted]

    def mask(self, level: int) -> str:
        """(1, 1, windows, 64, 64): FORBIDDEN for pairs that the cyclic shift made neighbours, else 0.

        Only the last row and the last column of windows hold pixels from both ends of the picture.
        """
        if level not in self._masks:
            graph, row_column = self._graph, np.divmod(np.arange(AREA), WINDOW)
            parts = []
            sides = graph.sides(self._padded, level)
            for axis, (length, position) in enumerate(zip(sides, row_column, strict=True)):
                late = position >= WINDOW // 2
                table = np.where(late[:, None] != late[None, :], FORBIDDEN, 0.0)
                before = graph.op("Sub", graph.op("Div", length, graph.ints(WINDOW)), graph.ints(1))
                zeros = graph.op("Expand", graph.floats([0]), before)
                is_last = graph.op("Concat", zeros, graph.floats([1]), axis=0)
                shape = (-1, 1, 1, 1) if axis == 0 else (1, -1, 1, 1)
                parts.append(graph.op("Mul", graph.op("Reshape", is_last, graph.ints(*shape)), graph.floats(table)))
            self._masks[level] = graph.op("Reshape", graph.op("Add", *parts), graph.ints(1, 1, -1, AREA, AREA))
        return self._masks[level]

    def _range(self, length: str) -> str:
        graph = self._graph
        zero, one = (graph.constant(np.array(i, np.int64)) for i in (0, 1))
        return graph.op("Range", zero, graph.op("Squeeze", length, graph.ints(0)), one)

    def _roll(self, index: str, length: str, shift: int) -> str:
        graph = self._graph
        return (
            graph.op("Mod", graph.op("Add", index, graph.op("Add", length, graph.ints(shift))), length)
            if shift
            else index
        )
