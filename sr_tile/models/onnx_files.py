"""Model files that claim more than they hold: refused before anything is run.

ONNX Runtime refuses truncated files and tensors larger than their data by itself, but its releases before 1.24 read
weights from any path that a file names. That, and functions that multiply without end, is
all `check_references` adds; it parses only files that name a path or have functions.
"""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sr_tile.errors import ArgumentError, ModelError, ModelLoadError, one_line
from sr_tile.system.atomic_file import EXISTS, refusal
from sr_tile.system.plain_file import open_plain

if TYPE_CHECKING:
    import onnx

_KEY = b"location"  # each tensor kept in another file spells this word out
_DIGITS = 20  # of a size that a disk can have
_FUNCTIONS = 25  # their field in the file
# Of a model, beside those of its graph: more are parsed, which is faster than stepping over them.
_MOST_FIELDS = 100_000
_BLOCK = 2**20
_MOST_NODES, _DEEPEST = 1_000_000, 200  # of functions, once each call is replaced by what it does


def check_references(path: Path) -> dict[str, Path]:
    """Refuse a model that reads weights from outside of its folder, or whose functions multiply without end.

    A search through the bytes of the file, about a second a gigabyte; `onnx` is imported only where it finds something.

    Args:
        path: an existing file.

    Returns:
        Where each file lies that it reads weights from, by the name that the model has for it.

    Raises:
        ModelLoadError: it does, or the file cannot be read.
    """
    try:
        with open_plain(path) as file:  # read, not mapped: of one that is cut meanwhile a map ends the process
            needs_look = _names_files(file) or _may_have_functions(file)
    except OSError as error:
        raise ModelLoadError(f"model {path}: cannot be read: {error.strerror or error}") from None
    if not needs_look:
        return {}
    model = _parse(path)
    files = _check_all(path, model)
    _check_functions(path, model)
    return files


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a name under which no model may be written.

    Raises:
        ModelError: there is a file of this name, and it is not to be replaced.
        ArgumentError: no model can have this name.
    """
    if target.suffix.lower() != ".onnx":
        raise ArgumentError(f"output {target}: must end in .onnx")
    if reason := refusal(target, overwrite):
        raise (ModelError if reason == EXISTS else ArgumentError)(f"{target}: {reason}")


NO_MODEL = "is no ONNX model, or a truncated one; get it again"


def load_model(path: Path) -> "onnx.ModelProto":
    """The model as a graph with all its weights, after every check.

    Raises:
        ModelLoadError: no such file, no ONNX model, weights outside of its folder, or a tensor larger than its data.
    """
    import onnx

    if not path.is_file():
        raise ModelLoadError(f"model {path}: there is no such file; `sr-tile models list` names models")
    model = _parse(path)
    if not model.graph.node or not model.graph.output:
        raise ModelLoadError(f"model {path}: {NO_MODEL}")
    _check_all(path, model)
    _check_functions(path, model)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelLoadError(f"model {path}: its external weights cannot be read: {one_line(error, 200)}") from None
    return model


def tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    """Every constant of a model: initializers, values of attributes, and those of graphs and functions inside."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def inner_graphs(node: "onnx.NodeProto") -> "Iterator[onnx.GraphProto]":
    """The graphs of If, Loop and Scan, which read names of the outer one."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: "onnx.GraphProto") -> "Iterator[onnx.GraphProto]":
    """A graph, and those inside its nodes, however deep."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from all_graphs(inner)


def _graph_tensors(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: "list[onnx.NodeProto]") -> "Iterator[onnx.TensorProto]":
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for graph in inner_graphs(node):
            yield from _graph_tensors(graph)


def _parse(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError:
        raise ModelLoadError(f"model {path}: {NO_MODEL}") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"model {path}: cannot be read: {one_line(error, 200)}; get it again") from None


def _check_all(path: Path, model: "onnx.ModelProto") -> dict[str, Path]:
    files: dict[str, Path] = {}
    for tensor in tensors(model):
        count = math.prod(tensor.dims)
        if any(dim < 0 for dim in tensor.dims):
            raise ModelLoadError(f"model {path}: tensor {tensor.name!r} claims the shape {list(tensor.dims)}")
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            files |= _check_external(path, tensor)
        elif count > 2 * tensor.ByteSize():  # no type packs more than two values into a byte
            raise ModelLoadError(
                f"model {path}: tensor {tensor.name!r} claims {count} values, the file holds {tensor.ByteSize()} bytes "
                "for it; it is damaged or forged, get it again"
            )
    return files


def _names_files(file: BinaryIO) -> bool:
    """Whether a file holds the word, wherever it stands in it."""
    end = b""
    while block := file.read(_BLOCK):
        if _KEY in end + block:
            return True
        end = block[1 - len(_KEY) :]
    return False


def _may_have_functions(file: BinaryIO) -> bool:
    """Whether a file has functions, or too many fields to step over; a damaged one is for the runtime to refuse."""

    def number() -> int:
        value = shift = 0
        while shift < 64:
            byte = file.read(1)[0]
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        return value

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        for _ in range(_MOST_FIELDS):
            if file.tell() >= size:
                return False
            key = number()
            if key >> 3 == _FUNCTIONS:
                return True
            length = number() if key & 7 in (0, 2) else {1: 8, 5: 4}[key & 7]
            if key & 7:
                file.seek(min(length, size), os.SEEK_CUR)
    except (IndexError, KeyError):
        return False
    return True


def _check_functions(path: Path, model: "onnx.ModelProto") -> None:
    """Runtimes replace each call by the nodes of the function, and these calls again, which a few lines can make endless."""
    calls = {(each.domain, each.name, each.overload): list(_called(each.node)) for each in model.functions}
    calls["", "", "the graph itself"] = list(_called(model.graph.node))
    nodes = dict.fromkeys(calls, 1)
    for _ in range(_DEEPEST):
        before, nodes = nodes, {name: 1 + sum(nodes.get(call, 1) for call in inner) for name, inner in calls.items()}
        if max(nodes.values(), default=0) > _MOST_NODES:
            raise ModelLoadError(
                f"model {path}: its functions call each other more than {_MOST_NODES} times; get another"
            )
        if nodes == before:
            return
    raise ModelLoadError(f"model {path}: its functions call each other more than {_DEEPEST} deep; get another")


def _called(nodes: "Iterable[onnx.NodeProto]") -> Iterator[tuple[str, str, str]]:
    """What nodes and those of the graphs inside of them call: operators and functions by domain, name and overload."""
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for graph in inner_graphs(node):
            yield from _called(graph.node)


def _check_external(path: Path, tensor: "onnx.TensorProto") -> dict[str, Path]:
    """A file inside of the model's folder that is as long as the tensor says, by the name that the model has for it."""
    where = f"model {path}: tensor {tensor.name!r}"
    folder = Path(os.path.realpath(path.parent))
    numbers = {"offset": 0, "length": 0}
    size = 0
    files: dict[str, Path] = {}
    for entry in tensor.external_data:
        if entry.key == "location":
            if "\0" in entry.value:
                raise ModelLoadError(f"{where} names a file that cannot exist; get the model again")
            target = Path(os.path.realpath(folder / entry.value))  # `resolve` raises where links run in a circle
            if not entry.value or Path(entry.value).is_absolute() or not target.is_relative_to(folder):
                raise ModelLoadError(
                    f"{where} reads its values from {entry.value!r}, outside of the model's folder; this is refused, "
                    "keep weights beside the model"
                )
            if not os.path.isfile(target):
                raise ModelLoadError(f"{where} reads its values from {entry.value!r}, which is missing")
            files, size = {entry.value: target}, target.stat().st_size
        elif entry.key in numbers:
            if not entry.value.isdecimal() or len(entry.value) > _DIGITS:
                raise ModelLoadError(f"{where} has {entry.key} {entry.value!r}, which is no size; get the model again")
            numbers[entry.key] = int(entry.value)
    least = max(numbers["length"], math.prod(tensor.dims) // 2)
    if numbers["offset"] + least > size:
        raise ModelLoadError(
            f"{where} claims {least} bytes or more from byte {numbers['offset']} of its file of {size} bytes; "
            "it is damaged or forged, get it again"
        )
    return files
