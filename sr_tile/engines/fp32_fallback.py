"""A model in float16 as one in float32: same graph, same stored weights, wider arithmetic."""

from pathlib import Path
from typing import TYPE_CHECKING

from sr_tile.models.onnx_files import all_graphs

if TYPE_CHECKING:
    import onnx

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def as_float32(path: Path) -> bytes | None:
    """Cast all that is float16 in the model at `path` to float32.

    Args:
        path: an ONNX file, with external data in its folder where it has any.

    Returns:
        The serialised model, its inputs and outputs float32; None where nothing in it is float16, or where the new model
        passes the 2 GiB that a model in memory may have.

    """
    import onnx  # heavy, and only needed when a tile went wrong

    model = onnx.load(path)
    if not sum(_widen(graph) for graph in all_graphs(model.graph)) or model.ByteSize() >= 2**31:
        return None
    return model.SerializeToString()


def _widen(graph: "onnx.GraphProto") -> int:
    """Make float32 of what is float16 in this graph, not in those inside; the number of things changed."""
    from onnx import TensorProto

    changed = 0
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            changed += 1
    changed += sum(_widen_tensor(tensor) for tensor in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
                changed += 1
            inner = ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors)
            changed += sum(_widen_tensor(tensor) for tensor in inner)
    return changed


def _widen_tensor(tensor: "onnx.TensorProto") -> int:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT16:
        return 0
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return 1
