"""What the conversions ask of an ONNX graph."""

from pathlib import Path
from typing import TYPE_CHECKING

from sr_tile.errors import ModelLoadError

if TYPE_CHECKING:
    import onnx


def load_float(path: Path) -> "onnx.ModelProto":
    """A model in float32, each node with a name of its own, no older than what per-channel int8 needs (opset 13).

    Raises:
        ModelLoadError: not ONNX, or not float32.
    """
    import onnx
    from onnx import TensorProto

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise ModelLoadError(f"model {path}: cannot be read as ONNX ({str(error)[:200]})") from error
    types = {tensor.data_type for tensor in model.graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in model.graph.input}
    narrow = types & {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8}
    if narrow or any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ModelLoadError(f"model {path.name}: is not in float32 any more; convert the model that it was made of")
    if next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 13) < 13:
        model = onnx.version_converter.convert_version(model, 13)
    seen = set[str]()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}_unnamed"
        seen.add(node.name)
    return model


def float_tensors(model: "onnx.ModelProto") -> set[str]:
    """Names of all float32 tensors of the main graph: inputs, weights and what nodes give."""
    import onnx
    from onnx import TensorProto

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def tidy(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Drop casts to float16 that are only cast back, and what nothing reads; sort the nodes.

    The library that converts to float16 casts between two float32 nodes too, where a value may overflow.
    """
    from onnx import TensorProto
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            up = made.get(name)
            down = made.get(up.input[0]) if up and _casts_to(up, TensorProto.FLOAT) else None
            if down and _casts_to(down, TensorProto.FLOAT16) and down.name.endswith("_cast_to_fp16_node"):
                node.input[index] = down.input[0]
    read = {name for node in graph.node for name in node.input} | outputs
    for node in list(graph.node):
        if node.op_type == "Cast" and node.output[0] not in read:
            graph.node.remove(node)
    OnnxModel(model).topological_sort()
    return model


def _casts_to(node: "onnx.NodeProto", kind: int) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == kind for item in node.attribute)


def without_repeats(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Drop nodes that make again what another has made, and number those that share a name with another.

    The library that converts to float16 casts a tensor once for each reader in float32, by one name; ONNX Runtime
    refuses such models.
    """
    made: set[str] = set()
    names: set[str] = set()
    nodes = []
    for node in model.graph.node:
        if any(output in made for output in node.output if output):
            continue
        made.update(node.output)
        name, number = node.name, 1
        while node.name and node.name in names:
            node.name, number = f"{name}_{number}", number + 1
        names.add(node.name)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
