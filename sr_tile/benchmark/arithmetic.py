"""What a network has to compute, and how fast this device multiplies matrices: the share of the limit that is reached."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import PROVIDERS, Device
from sr_tile.errors import SrTileError
from sr_tile.models.onnx_files import load_model

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]

_OPERANDS = {  # where left operand (or input) and right operand (or kernel) stand among a node's inputs
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "ConvTranspose": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "Gemm": (0, 1),
    "Einsum": (0, 1),
}
_SIDES = {"cpu": (1024, 8), "gpu": (4096, 32)}  # side of the matrices, products in a row


def count_macs(path: Path, channels: int, tile: tuple[int, int]) -> int:
    """Multiplications (each with its addition) of one tile: convolutions and matrix products, nothing else.

    The model is run once with the shapes of those nodes as its only outputs, so graphs that compute their own shapes
    are counted as well as others.

    Args:
        path: the ONNX file.
        channels: of the input.
        tile: (height, width) of the input.

    Raises:
        ModelLoadError: the file is no model that ONNX Runtime can run on the CPU.
    """
    import onnx

    model = load_model(path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    nodes = [node for node in model.graph.node if node.op_type in _OPERANDS]
    names = sorted({name for node in nodes for name in (*_operands(node), node.output[0])})
    del model.graph.output[:]
    model.graph.node.extend(onnx.helper.make_node("Shape", [name], [f"shape of {name}"]) for name in names)
    kind = onnx.TensorProto.INT64
    model.graph.output.extend(onnx.helper.make_tensor_value_info(f"shape of {name}", kind, [None]) for name in names)
    if not names:
        return 0
    session = open_session(model.SerializeToString(), Device("cpu"), path.name)
    first = session.get_inputs()[0]
    picture = np.full((1, channels, *tile), 0.5, np.float16 if "float16" in first.type else np.float32)
    found = session.run(None, {first.name: picture})
    shapes = {name: tuple(int(side) for side in shape) for name, shape in zip(names, found, strict=True)}
    return sum(_macs(node, shapes) for node in nodes)


def _operands(node: "onnx.NodeProto") -> tuple[str, str]:
    left, right = _OPERANDS[node.op_type]
    return node.input[left], node.input[min(right, len(node.input) - 1)]


def _macs(node: "onnx.NodeProto", shapes: dict[str, Shape]) -> int:
    left, right = (shapes[name] for name in _operands(node))
    attributes = {item.name: item for item in node.attribute}
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    if "Conv" in node.op_type:
        return math.prod(shapes[node.output[0]]) * math.prod(right[1:])
    if node.op_type == "Einsum":
        equation = attributes["equation"].s.decode().replace(" ", "").split("->")[0].split(",")
        sizes = dict(zip("".join(equation), left + right, strict=False))
        return math.prod(sizes.values()) if len(equation) == 2 else 0
    summed = left[-2] if "transA" in attributes and attributes["transA"].i else left[-1]
    return math.prod(shapes[node.output[0]]) * summed


class MatrixRate:
    """How fast the device multiplies matrices through the same runtime, with the same settings.

    Args:
        device: as an engine names it; what ONNX Runtime has no provider for counts as the CPU.
        number_type: float32 or float16.

    Raises:
        DeviceError: the device cannot be had.
    """

    def __init__(self, device: str, number_type: type = np.float32) -> None:
        kind = device.partition(":")[0]
        self._device = Device.parse(device) if kind in PROVIDERS else Device("cpu")
        side, products = _SIDES["cpu" if self._device.kind == "cpu" else "gpu"]
        self._operations = 2 * side**3 * products
        self._session = open_session(_products(side, products, number_type), self._device, "matrix product")
        self._run()  # the first call is slower

    def measure(self) -> float:
        """Operations per second of one more run; a multiplication with its addition counts as two."""
        start = time.perf_counter()
        self._run()
        return self._operations / (time.perf_counter() - start)

    def _run(self) -> Any:
        return self._session.run(None, {"nothing": np.zeros((), np.float32)})


def _products(side: int, products: int, number_type: type) -> bytes:
    """A graph of matrix products in a row, from a number to a number, so that nothing but arithmetic takes time."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    # Rows of unit length: products neither grow nor vanish. The input keeps the runtime from folding it all away.
    matrix: np.ndarray = (np.random.default_rng(0).standard_normal((side, side)) / math.sqrt(side)).astype(number_type)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(number_type))
    nodes = [
        helper.make_node("Cast", ["nothing"], ["zero"], to=kind),
        helper.make_node("Add", ["matrix", "zero"], ["product 0"]),
        *(helper.make_node("MatMul", [f"product {i}", "matrix"], [f"product {i + 1}"]) for i in range(products)),
        helper.make_node("ReduceMax", [f"product {products}"], ["largest"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("nothing", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("largest", kind, [])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def or_none(make: Callable[[], Any]) -> Any:
    """What `make` gives; None where this model or device has no answer: the limit is a remark, no part of the work."""
    try:
        return make()
    except SrTileError:
        return None
