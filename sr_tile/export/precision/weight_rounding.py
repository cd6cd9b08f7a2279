"""Weights to 8 bits so that a layer's results change least, not its weights.

Each rounding error is made good by the weights that are not rounded yet, as far as the layer's inputs are correlated: those
of pictures are. Source: Frantar et al., "GPTQ", ICLR 2023, after Hassibi and Stork, "Optimal brain surgeon", 1993.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sr_tile.export.precision.compare import values_inside
from sr_tile.export.precision.equalise import has_groups

if TYPE_CHECKING:
    import onnx

_MOST_INPUTS = 4608  # of one output: 512 channels of 3 x 3; where there are more, each weight is rounded by itself
_WINDOWS = 8  # looked at, for each of these inputs
_DAMPING = 0.003  # of the mean square of the inputs: what the pictures of the calibration do not show
_BLOCK = 64  # columns whose errors are carried on together


class WeightRounding:
    """Rounds the weights of ordinary convolutions for what they read in pictures.

    Args:
        model: in float32.
        names: of the nodes that may become int8.
        ranges: what `quantisable` tensors reach, as ONNX Runtime's quantiser takes it: they are rounded to 8 bits first.
        pictures: of the calibration.
    """

    def __init__(
        self, model: "onnx.ModelProto", names: Sequence[str], ranges: Any, pictures: Sequence[np.ndarray]
    ) -> None:
        from onnx import numpy_helper

        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._products: dict[str, np.ndarray] = {}
        self._weights: dict[str, np.ndarray] = {}
        self._integers: dict[str, np.ndarray] = {}
        layers = []
        for node in model.graph.node:
            if node.name in names and node.op_type == "Conv" and not has_groups(node):
                values = numpy_helper.to_array(weights[node.input[1]])
                if values.ndim == 4 and values[0].size <= _MOST_INPUTS:
                    layers.append(node)
                    self._weights[node.input[1]] = values
                    self._products[node.input[1]] = np.zeros((values[0].size,) * 2)
        if not layers:
            return
        values_of = values_inside(model, [node.input[0] for node in layers])
        for picture in pictures:
            values = values_of(picture)
            for node in layers:
                sums, kernel = self._products[node.input[1]], self._weights[node.input[1]].shape[2:]
                rounded = _in_8_bits(values[node.input[0]], *ranges[node.input[0]].range_value)
                sums += products_of_inputs(rounded, kernel, _WINDOWS * len(sums) // len(pictures) + 1)

    def apply(self, model: "onnx.ModelProto") -> None:
        """Replace the integers that ONNX Runtime's quantiser made of the weights, of which it rounds each by itself."""
        from onnx import numpy_helper

        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            name = node.output[0].removesuffix("_DequantizeLinear_Output")
            if node.op_type != "DequantizeLinear" or name not in self._products:
                continue
            weights, integers = self._weights[name], constants[node.input[0]]
            if name not in self._integers:
                steps = numpy_helper.to_array(constants[node.input[1]])
                self._integers[name] = round_weights(weights.reshape(len(weights), -1), steps, self._products[name])
            integers.CopyFrom(numpy_helper.from_array(self._integers[name].reshape(weights.shape), integers.name))


def _in_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """What is left of values in 255 steps from `low` to `high`, between which 0 lies, or is one of them."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    step = max(high - low, 1e-12) / 255
    zero = round(-low / step)
    return ((np.rint(values / step).clip(-zero, 255 - zero)) * step).astype(np.float32)


def products_of_inputs(values_nchw: np.ndarray, kernel: tuple[int, int], most: int) -> np.ndarray:
    """What a convolution multiplies, as the sum of outer products of its windows: (K, K), K = channels * kernel.

    Args:
        values_nchw: the inputs of a convolution.
        kernel: its height and width.
        most: windows to look at, about.
    """
    around = [(0, 0), (0, 0), *((length // 2, length // 2) for length in kernel)]
    windows = sliding_window_view(np.pad(values_nchw, around), kernel, axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    rows = windows.reshape(-1, values_nchw.shape[1] * kernel[0] * kernel[1])
    rows = rows[:: max(1, len(rows) // most)].astype(np.float64)
    return rows.T @ rows


def round_weights(weights: np.ndarray, steps: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Integers from -127 to 127 that, times their step, give nearly the same sums of the inputs.

    Args:
        weights: (outputs, K).
        steps: of each output, (outputs,).
        products: see `products_of_inputs`.
    """
    left, count = weights.astype(np.float64), weights.shape[1]
    steps = np.maximum(steps.astype(np.float64), 1e-30)
    damped = products + np.eye(count) * (_DAMPING * products.diagonal().mean() + 1e-12)
    order = np.argsort(-products.diagonal(), kind="stable")  # the inputs that count most are rounded first
    left, damped = left[:, order], damped[np.ix_(order, order)]
    passing_on = np.linalg.cholesky(np.linalg.inv(damped)).T
    rounded = np.zeros_like(left)
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        errors = np.zeros((len(left), end - start))
        for column in range(start, end):
            rounded[:, column] = np.rint(left[:, column] / steps).clip(-127, 127)
            error = (left[:, column] - rounded[:, column] * steps) / passing_on[column, column]
            left[:, column:end] -= error[:, None] * passing_on[column, column:end]
            errors[:, column - start] = error
        left[:, end:] -= errors @ passing_on[start:end, end:]
    return rounded[:, np.argsort(order)].astype(np.int8)
