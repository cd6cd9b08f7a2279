"""What a model file is, and what `enhance` would do with it."""

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from sr_tile.engines.factory import open_engine
from sr_tile.errors import ArgumentError, SrTileError
from sr_tile.models.onnx_files import load_model, tensors
from sr_tile.planner import Settings, make_plan
from sr_tile.system.hashes import sha256_of


def inspect(path: Path, device: str = "auto") -> dict[str, Any]:
    """Facts of a model file, ready for JSON.

    Args:
        path: an ONNX file.
        device: where `enhance` would run.

    Returns:
        `file`, `bytes`, `sha256`, `opset`, `producer`, `nodes`, `operators`, `parameters`, `inputs`, `outputs`,
        `metadata` as the file has it, `spec` with what was measured, and `enhance`: tile, overlap, halo, multiple,
        batch and device, or why it is `refused`.

    Raises:
        ModelLoadError: it is no ONNX file, it is damaged, or reads weights from elsewhere.
        ArgumentError: there is no such device.
    """
    model = load_model(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in constants]
    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
    packed = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    found: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "opset": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "nodes": len(model.graph.node),
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "parameters": sum(math.prod(item.dims) for item in tensors(model) if item.data_type in (*floating, *packed)),
        "inputs": [_port(item) for item in inputs],
        "outputs": [_port(item) for item in model.graph.output],
        "metadata": {entry.key: _value(entry.value) for entry in model.metadata_props},
    }
    return {**found, **_plan(path, device)}


def _plan(path: Path, device: str) -> dict[str, Any]:
    """The spec with what was measured, and the plan of `enhance`, or why there is none."""
    try:
        engine = open_engine(path, device)
    except ArgumentError:  # the device that was asked for is none
        raise
    except SrTileError as error:
        return {"spec": None, "enhance": {"refused": str(error)}}
    try:
        plan = make_plan(engine, Settings())
    except SrTileError as error:
        return {"spec": asdict(engine.spec), "enhance": {"refused": str(error)}}
    finally:
        engine.close()
    names = ("tile", "overlap", "halo", "multiple", "batch")
    return {
        "spec": asdict(engine.spec),
        "enhance": {"device": engine.device, **{name: getattr(plan, name) for name in names}},
    }


def _port(item: onnx.ValueInfoProto) -> dict[str, Any]:
    """Name, type and shape of an input or output."""
    kind = item.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    shape = [_dim(dim) for dim in kind.shape.dim] if kind.HasField("shape") else None
    return {"name": item.name, "type": {"float": "float32"}.get(dtype, dtype), "shape": shape}


def _dim(dim: onnx.TensorShapeProto.Dimension) -> dict[str, Any]:
    """Fixed with its size, symbolic with its name, or dynamic without one."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return {"kind": "fixed", "size": dim.dim_value}
    if dim.dim_param:
        return {"kind": "symbolic", "name": dim.dim_param}
    return {"kind": "dynamic"}


def _value(text: str) -> Any:
    """Metadata as JSON where it is JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
