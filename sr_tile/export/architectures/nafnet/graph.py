"""NAFNet written for ONNX Runtime: the published weights, the same function, few passes over memory.

Source: Chen et al., "Simple baselines for image restoration", ECCV 2022 (MIT). Local pooling: Chu et al., "Improving
image restoration by revisiting global information aggregation" (TLC), ECCV 2022.

Tokens (B, H * W, C) flow through the network: there 1 x 1 convolutions are plain matrix products and normalisation
needs no transposes. Only the depthwise 3 x 3 convolutions and what touches them work on planes (B, C, H, W). The
scales beta and gamma move into the convolutions before them, scale, shift and bias around a normalisation into the
matrix behind it. Tokens have three dimensions: of four, OpenVINO takes the second for channels, and moves all of them
to and fro.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx

from sr_tile.export.architectures.nafnet.size import EPSILON, LOCAL_SIDE, NAFNetSize
from sr_tile.export.architectures.network import State
from sr_tile.export.architectures.tokens import after_norm, normalise
from sr_tile.export.graph_writer import GraphWriter


def build_graph(state: State, size: NAFNetSize, opset: int, local: bool) -> onnx.ModelProto:
    """Write the graph: (batch, channels, height, width), range [0, 1], any size from 1 x 1, to the same size.

    Args:
        state: checked weights.
        size: what `infer` returned for them.
        opset: version of the standard operator set.
        local: pool over windows (TLC) instead of the whole input.
    """
    return _Writer(state, size, opset, local).write()


_BLOCK = 32  # tokens that are summed up at once


class _Place(NamedTuple):
    prefix: str
    width: int
    level: int


class _Writer:
    def __init__(self, state: State, size: NAFNetSize, opset: int, local: bool) -> None:
        self.size, self.local = size, local
        self.weights = {name: np.asarray(value, np.float64) for name, value in state.items()}
        self.graph = GraphWriter("nafnet", size.channels, opset)

    def write(self) -> onnx.ModelProto:
        graph, weights, size = self.graph, self.weights, self.size
        self.padded = padded = graph.pad_to_multiple(graph.input, size.multiple, "constant")
        self.batch = graph.op("Shape", padded, start=0, end=1)
        tokens = self._tokens(graph.conv(padded, weights["intro.weight"], weights["intro.bias"]), size.width)
        skips = []
        for level, blocks in enumerate(size.encoders):
            tokens = self._stage(tokens, f"encoders.{level}", blocks, level)
            skips.append(self._cuttable(tokens, _Place("", size.width << level, level)))
            tokens = self._down(tokens, level)
        tokens = self._stage(tokens, "middle_blks", size.middle, len(size.encoders))
        for i, blocks in enumerate(size.decoders):
            tokens = self._up(tokens, skips.pop(), i, len(skips) + 1)
            tokens = self._stage(tokens, f"decoders.{i}", blocks, len(skips))
        planes = self._planes(tokens, _Place("", size.width, 0))
        residual = graph.conv(planes, weights["ending.weight"], weights["ending.bias"])
        return graph.model(graph.crop(graph.op("Add", residual, padded), like=graph.input))

    def _tokens(self, planes: str, width: int) -> str:
        """(B, C, H, W) to (B, H * W, C)."""
        return self.graph.op("Reshape", self.graph.to_tokens(planes), self.graph.ints(0, -1, width))

    def _planes(self, tokens: str, place: _Place) -> str:
        """(B, H * W, C) to (B, C, H, W)."""
        return self.graph.to_planes(self._spread(tokens, place))

    def _spread(self, tokens: str, place: _Place) -> str:
        """(B, H * W, C) to (B, H, W, C)."""
        shape = self._shape(self.batch, *self.graph.sides(self.padded, place.level), place.width)
        return self.graph.op("Reshape", tokens, shape)

    def _cuttable(self, tokens: str, place: _Place) -> str:
        """The same by way of (B, H, W, C), which can be cut into tiles where exact pooling cuts the graph."""
        return self.graph.op("Reshape", self._spread(tokens, place), self.graph.ints(0, -1, place.width))

    def _shape(self, *lengths: str | int) -> str:
        """The lengths, of which some are known, as one int64 tensor."""
        named = [self.graph.ints(length) if isinstance(length, int) else length for length in lengths]
        return self.graph.op("Concat", *named, axis=0)

    def _stage(self, tokens: str, name: str, blocks: int, level: int) -> str:
        for block in range(blocks):
            tokens = self._block(tokens, _Place(f"{name}.{block}.", self.size.width << level, level))
        return tokens

    def _block(self, tokens: str, place: _Place) -> str:
        graph, tokens = self.graph, self._cuttable(tokens, place)
        gated = self._gate(self._halves(tokens, place, "norm1", "conv1", depthwise="conv2"), place)
        if self.local:
            gated = self._tokens(gated, place.width)
            attended = graph.op("Mul", gated, self._local_attention(gated, place))
        else:
            attention = self._attention(self._tokens(self._mean(gated, place.level), place.width), place)
            attended = graph.op("Mul", self._tokens(gated, place.width), attention)
        tokens = self._residual(attended, tokens, place, "conv3", "beta")
        gated = graph.op("Mul", *self._halves(tokens, place, "norm2", "conv4"))
        return self._residual(gated, tokens, place, "conv5", "gamma")

    def _halves(self, tokens: str, place: _Place, norm: str, conv: str, depthwise: str | None = None) -> list[str]:
        """Both factors of a gate, each from its half of the weights: a split would be one more pass over memory."""
        graph, get = self.graph, self._get(place)
        tokens = normalise(graph, tokens, place.width, EPSILON)
        matrix = after_norm(
            get(f"{conv}.weight")[:, :, 0, 0], get(f"{conv}.bias"), get(f"{norm}.weight"), get(f"{norm}.bias")
        )
        halves = [graph.linear(tokens, part) for part in np.split(matrix, 2)]
        if depthwise is None:
            return halves
        kernels = zip(np.split(get(f"{depthwise}.weight"), 2), np.split(get(f"{depthwise}.bias"), 2), strict=True)
        return [
            graph.declare(graph.conv(self._planes(half, place), *kernel, groups=place.width), place.width, place.level)
            for half, kernel in zip(halves, kernels, strict=True)
        ]

    def _gate(self, halves: list[str], place: _Place) -> str:
        return self.graph.declare(self.graph.op("Mul", *halves), place.width, place.level)

    def _residual(self, branch: str, tokens: str, place: _Place, conv: str, scale: str) -> str:
        graph, get = self.graph, self._get(place)
        factor = get(scale).reshape(-1)
        branch = graph.linear(branch, get(f"{conv}.weight")[:, :, 0, 0] * factor[:, None])
        # The bias last: right behind a product, ONNX Runtime would merge it into a Gemm, which is slower.
        return graph.op("Add", graph.op("Add", branch, tokens), graph.floats(get(f"{conv}.bias") * factor))

    def _mean(self, planes: str, level: int) -> str:
        """Mean of every plane, in two steps: ONNX Runtime adds pixels one by one, losing digits on large planes."""
        graph, block = self.graph, self.size.multiple >> level
        if block > 1:
            planes = graph.op("AveragePool", planes, kernel_shape=[block, block], strides=[block, block])
        return graph.op("GlobalAveragePool", planes)

    def _attention(self, means: str, place: _Place) -> str:
        graph, get = self.graph, self._get(place)
        scores = graph.linear(means, get("sca.1.weight")[:, :, 0, 0])
        return graph.op("Add", scores, graph.floats(get("sca.1.bias")))

    def _local_attention(self, tokens: str, place: _Place) -> str:
        """TLC: means over windows of 384 pixels at full resolution, borders replicated: (B, H * W, C)."""
        graph, (height, width) = self.graph, self.graph.sides(self.padded, place.level)
        rows = graph.op("Reshape", tokens, self._shape(-1, width, place.width))
        rows, across, left, right = self._windows(rows, width, place.level)
        rows = graph.op("Reshape", rows, self._shape(self.batch, height, -1))
        rows, down, top, bottom = self._windows(rows, height, place.level)
        means = graph.op("Reshape", rows, self._shape(self.batch, down, across, place.width))
        zero = graph.ints(0)
        amounts = graph.op("Concat", zero, top, left, zero, zero, bottom, right, zero, axis=0)
        scores = graph.op("Pad", self._attention(means, place), amounts, mode="edge")
        return graph.op("Reshape", scores, graph.ints(0, -1, place.width))

    def _windows(self, rows: str, length: str, level: int) -> tuple[str, str, str, str]:
        """Means over neighbours along the second of three axes: (.., places, ..), places, and those missing at both ends.

        The first is a plain mean; with each step one token comes in and one goes. Running sums over the whole length would
        be a third of all time, also where the window covers it and nothing is left to add up, and grow beyond few bits.
        """
        graph = self.graph
        axis, start, one = graph.ints(1), graph.ints(0), graph.ints(1)
        window = graph.op("Min", length, graph.ints(LOCAL_SIDE >> level))
        first = graph.op("ReduceMean", graph.op("Slice", rows, start, window, axis), axis)
        steps = graph.op("Sub", length, window)
        entering, leaving = (graph.op("Slice", rows, *ends, axis) for ends in ((window, length), (start, steps)))
        places = graph.op("Add", steps, one)
        changes = self._running_sums(graph.op("Sub", entering, leaving), places)
        means = graph.op("Add", first, graph.op("Div", changes, graph.op("Cast", window, to=onnx.TensorProto.FLOAT)))
        missing = graph.op("Sub", window, one)
        before = graph.op("Div", missing, graph.ints(2))
        return means, places, before, graph.op("Sub", missing, before)

    def _running_sums(self, rows: str, places: str) -> str:
        """0 and the sums along the second of three axes, by blocks: a product with a triangle, and what was before each.

        `CumSum` alone takes ten times as long.
        """
        graph, zero, one = self.graph, self.graph.ints(0), self.graph.ints(1)
        behind = graph.op("Mod", graph.op("Neg", places), graph.ints(_BLOCK))
        rows = graph.op("Pad", rows, self._shape(0, 1, 0, 0, behind, 0))
        depth = graph.op("Shape", rows, start=2, end=3)
        blocks = graph.op("Reshape", rows, self._shape(0, -1, _BLOCK, depth))
        inside = graph.op("MatMul", graph.floats(np.tri(_BLOCK)), blocks)
        totals = graph.op("Slice", inside, graph.ints(_BLOCK - 1), graph.ints(_BLOCK), graph.ints(2))
        before = graph.op("CumSum", totals, graph.constant(np.array(1, np.int64)), exclusive=1)
        sums = graph.op("Reshape", graph.op("Add", inside, before), self._shape(0, -1, depth))
        return graph.op("Slice", sums, zero, places, one)

    def _down(self, tokens: str, level: int) -> str:
        """2 x 2 convolution of stride 2: gather four neighbours into one token, then one matrix product."""
        graph, width = self.graph, self.size.width << level
        weight = self.weights[f"downs.{level}.weight"].transpose(0, 2, 3, 1).reshape(2 * width, 4 * width)
        height, wide = self.graph.sides(self.padded, level + 1)
        pairs = self._shape(self.batch, height, 2, wide, 2 * width)
        rows = graph.op("Transpose", graph.op("Reshape", tokens, pairs), perm=[0, 1, 3, 2, 4])
        rows = graph.op("Reshape", rows, graph.ints(0, -1, 4 * width))
        return graph.op("Add", graph.linear(rows, weight), graph.floats(self.weights[f"downs.{level}.bias"]))

    def _up(self, tokens: str, skip: str, i: int, level: int) -> str:
        """1 x 1 convolution and pixel shuffle: with its rows reordered, the matrix leaves whole tokens to move."""
        graph, weight = self.graph, self.weights[f"ups.{i}.0.weight"][:, :, 0, 0]
        deep = weight.shape[1]
        weight = weight.reshape(deep // 2, 2, 2, deep).transpose(1, 2, 0, 3).reshape(2 * deep, deep)
        pairs = self._shape(self.batch, *self.graph.sides(self.padded, level), 2, deep)
        rows = graph.op("Reshape", graph.linear(tokens, weight), pairs)
        rows = graph.op("Transpose", rows, perm=[0, 1, 3, 2, 4])
        return graph.op("Add", graph.op("Reshape", rows, graph.op("Shape", skip)), skip)

    def _get(self, place: _Place):  # type: ignore[no-untyped-def]
        return lambda name: self.weights[place.prefix + name]
