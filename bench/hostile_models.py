"""Model files that no one should trust, for `fuzz.py`: ONNX files, checkpoints, ncnn networks; one entry of `cases` each."""

import io
import json
import pickle
import random
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mutants import model, mutate
from onnx import ModelProto, TensorProto, helper, numpy_helper

Files = dict[str, bytes]
"""What a case writes: content by suffix; the first is the one that commands are given."""
Case = Callable[[random.Random], Files]

_BUNDLED = Path(__file__).parents[1] / "models" / "clean-x2.onnx"
_KEYS = ("scale", "multiple", "halo", "tile", "channels", "name", "value_range", "receptive_field", "seam", "pooling",
         "licence", "architecture")  # fmt: skip
_VALUES = ("[" * 100_000, "1e999", "10000000000", "-1", "{}", '"\\ud800"', '"\\u001b]0;x\\u0007"', "null", "true", "[1, 2]",
           "0.5", '"12"', "NaN", '{"a": {"b": 1}}', "1e-320", "9" * 5000)  # fmt: skip
_HUGE = np.array([1, 3, 10**6, 10**6], np.int64)
_SHAPES = ((), (3,), (1, 3, 0, 0), (1, 3, 2**31, 2**31), (10**9, 3, "h", "w"), (0, 3, "h", "w"), (1, 4, "h", "w"),
           ("n", "c", "h", "h"), (1, 3, 7, 9), ("n", "h", "w", 3), (1, 3, 1, "h", "w"), (1, 3, 10**5, 10**5))  # fmt: skip
_FLOATS = ("float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz", "bool", "int8", "uint8", "int64", "uint64",
           "complex64", "complex128", "float4_e2m1fn_x2")  # fmt: skip


def cases() -> dict[str, Case]:
    """Every case by its name; what varies inside of one follows from the dice."""
    found: dict[str, Case] = {f"metadata, {key}": partial(_metadata, key) for key in _KEYS}
    found |= {"mutant of the smallest model": lambda dice: {"onnx": mutate(model(), dice)}}
    found |= {f"mutant {n} of clean-x2": lambda dice: {"onnx": mutate(_BUNDLED.read_bytes(), dice)} for n in range(6)}
    found |= {f"graph, {name}": partial(_built, build) for name, build in _graphs().items()}
    found |= {f"pth of {kind}": partial(_weights_of, kind) for kind in _FLOATS}
    found |= {f"pth, {name}": partial(_saved, make) for name, make in _states().items()}
    found |= {
        f"pickle, {name}": (lambda dice, content=content: {"pth": content}) for name, content in _pickles().items()
    }
    found |= {"mutant of a pth": lambda dice: {"pth": mutate(_weights_of("float32", dice)["pth"], dice)}}
    found |= {
        f"safetensors of {kind}": partial(_safetensors, kind) for kind in ("BOOL", "F8_E4M3", "C64", "U64", "F4", "?")
    }
    found |= {
        f"safetensors, {name}": (lambda dice, content=content: {"safetensors": content}) for name, content in _headers()
    }
    found |= {f"ncnn, {name}": (lambda dice, text=text: {"param": text.encode(), "bin": dice.randbytes(400)})
              for name, text in _params().items()}  # fmt: skip
    return found


def _metadata(key: str, dice: random.Random) -> Files:
    facts = ['"scale": 1', f'"{key}": {dice.choice(_VALUES)}', f'"{dice.choice(_KEYS)}": {dice.choice(_VALUES)}']
    return {"onnx": model("{" + ", ".join(facts) + "}")}


def _face(name: str, kind: int = TensorProto.FLOAT, shape: Any = ("n", 3, "h", "w")) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[Any], constants: dict[str, np.ndarray] | None = None, **changed: Any) -> ModelProto:
    inputs, outputs = changed.get("inputs", [_face("x")]), changed.get("outputs", [_face("y", shape=None)])
    tensors = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    imports = [helper.make_opsetid(domain, version) for domain, version in changed.get("opsets", {"": 20}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=changed.get("ir", 9))


def _node(kind: str, *names: str, **attributes: Any) -> Any:
    """The last name is the output."""
    return helper.make_node(kind, list(names[:-1]), [names[-1]], **attributes)


def _loop() -> ModelProto:
    body = helper.make_graph(
        [_node("Identity", "go", "on"), _node("Add", "v", "v", "w")],
        "body",
        [_face("i", TensorProto.INT64, []), _face("go", TensorProto.BOOL, []), _face("v", shape=None)],
        [_face("on", TensorProto.BOOL, []), _face("w", shape=None)],
    )
    constants = {"most": np.array(2**62), "true": np.array(True)}
    return _model([helper.make_node("Loop", ["most", "true", "x"], ["y"], body=body)], constants)


def _nested() -> ModelProto:
    """`If` inside of `If`."""
    branch = helper.make_graph([_node("Identity", "x", "y0")], "leaf", [], [_face("y0", shape=None)])
    for depth in range(1, 25):
        other = branch if depth < 8 else _leaf(depth)
        node = helper.make_node("If", ["true"], [f"y{depth}"], then_branch=branch, else_branch=other)
        branch = helper.make_graph([node], f"b{depth}", [], [_face(f"y{depth}", shape=None)])
    return _model(
        [helper.make_node("If", ["true"], ["y"], then_branch=branch, else_branch=_leaf(99))], {"true": np.array(True)}
    )


def _leaf(depth: int) -> Any:
    return helper.make_graph([_node("Identity", "x", f"z{depth}")], f"l{depth}", [], [_face(f"z{depth}", shape=None)])


def _graphs() -> dict[str, Callable[[], ModelProto]]:
    same = [_node("Identity", "x", "y")]
    ports: dict[str, Any] = {
        f"input of {kind}": partial(_model, same, inputs=[_face("x", number)], outputs=[_face("y", number, None)])
        for kind, number in TensorProto.DataType.items()
    }
    ports |= {
        f"output of {kind}": partial(_model, [_node("Cast", "x", "y", to=number)], outputs=[_face("y", number, None)])
        for kind, number in TensorProto.DataType.items()
    }
    ports |= {f"input of shape {shape}": partial(_model, same, inputs=[_face("x", shape=shape)]) for shape in _SHAPES}
    return ports | {
        "endless loop": _loop,
        "deep branches": _nested,
        "expanded to 10^12 pixels": lambda: _model([_node("Expand", "x", "s", "y")], {"s": _HUGE}),
        "constant of 10^12 pixels": lambda: _model([_node("ConstantOfShape", "s", "y")], {"s": _HUGE}),
        "resized 10^6 times": lambda: _model(
            [_node("Resize", "x", "", "s", "y")], {"s": np.array([1, 1, 1e6, 1e6], np.float32)}
        ),
        "tiled 10^6 times": lambda: _model([_node("Tile", "x", "s", "y")], {"s": np.array([1, 1, 10**6, 10**6])}),
        "padded by 10^9": lambda: _model(
            [_node("Pad", "x", "p", "y")], {"p": np.array([0, 0, 10**9, 10**9, 0, 0, 10**9, 10**9])}
        ),
        "padded by less than is there": lambda: _model(
            [_node("Pad", "x", "p", "y")], {"p": np.array([0, 0, -9, -9, 0, 0, -9, -9])}
        ),
        "cycle": lambda: _model([_node("Add", "x", "y", "a"), _node("Identity", "a", "y")]),
        "output that nobody computes": lambda: _model([_node("Identity", "x", "z")]),
        "output twice": lambda: _model([*same, _node("Neg", "x", "y")]),
        "two inputs": lambda: _model(
            [_node("Add", "x", "a", "y")], inputs=[_face("x"), _face("a", shape=[1])]
        ),
        "no input": lambda: _model([_node("Identity", "c", "y")], {"c": np.zeros((1, 3, 8, 8), np.float32)}, inputs=[]),
        "NaN": lambda: _model([_node("Log", "x", "a"), _node("Sqrt", "a", "y")]),
        "infinity": lambda: _model([_node("Div", "x", "c", "y")], {"c": np.zeros(1, np.float32)}),
        "transposed": lambda: _model([_node("Transpose", "x", "y", perm=[0, 1, 3, 2])]),
        "channels last": lambda: _model([_node("Transpose", "x", "y", perm=[0, 2, 3, 1])]),
        "one pixel": lambda: _model([_node("GlobalAveragePool", "x", "y")]),
        "empty": lambda: _model(
            [_node("Slice", "x", "a", "b", "c", "y")], {"a": np.array([5]), "b": np.array([5]), "c": np.array([2])}
        ),
        "scale that is no integer": lambda: _model(
            [_node("Resize", "x", "", "s", "y")], {"s": np.array([1, 1, 1.37, 1.41], np.float32)}
        ),
        "noise": lambda: _model([_node("RandomNormalLike", "x", "y")]),
        "batches that are joined": lambda: _model([_node("ReduceSum", "x", "a", "y")], {"a": np.array([0])}),
        "sequence": lambda: _model(
            [_node("SequenceConstruct", "x", "y")],
            outputs=[helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
        ),
        "unknown operator": lambda: _model([_node("Nonsense", "x", "y")]),
        "unknown domain": lambda: _model([_node("A", "x", "y", domain="a.b")], opsets={"": 20, "a.b": 1}),
        "opset 10^6": lambda: _model(same, opsets={"": 10**6}),
        "no opset": lambda: _model(same, opsets={}),
        "version 10^6": lambda: _model(same, ir=10**6),
        "control characters": lambda: _model(
            [_node("Identity", "\x1b]0;x\x07", "\x9b1m\n")], inputs=[_face("\x1b]0;x\x07")], outputs=[_face("\x9b1m\n")]
        ),
        "names of 10^6 characters": lambda: _model(
            [_node("Identity", "x" * 10**6, "y" * 10**6)], inputs=[_face("x" * 10**6)], outputs=[_face("y" * 10**6)]
        ),
        "10^4 nodes": lambda: _model(
            [_node("Neg", f"v{n}", f"v{n + 1}") for n in range(10**4)],
            inputs=[_face("v0")],
            outputs=[_face("v10000", shape=None)],
        ),
    }  # fmt: skip


def _built(build: Callable[[], ModelProto], dice: random.Random) -> Files:
    return {"onnx": build().SerializeToString()}


def _state(kind: str = "float32") -> dict[str, Any]:
    """A network of 17 convolutions, DnCNN, as spandrel knows it, of one number type."""
    import torch

    torch.manual_seed(0)
    shapes = [(16, 3), *[(16, 16)] * 15, (3, 16)]
    state = {}
    for index, shape in enumerate(shapes):
        for name, value in (("weight", torch.randn(*shape, 3, 3) * 0.02), ("bias", torch.zeros(shape[0]))):
            dtype = getattr(torch, kind)
            packed = dtype == getattr(torch, "float4_e2m1fn_x2", None)
            state[f"model.{2 * index}.{name}"] = value.to(torch.uint8).view(dtype) if packed else value.to(dtype)
    return state


def _file(content: object) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _weights_of(kind: str, dice: random.Random) -> Files:
    return {"pth": _file(_state(kind))}


def _saved(make: Callable[[dict[str, Any]], object], dice: random.Random) -> Files:
    return {"pth": _file(make(_state()))}


def _states() -> dict[str, Callable[[dict[str, Any]], object]]:
    import torch

    warnings.simplefilter("ignore")  # of kinds of tensors that are deprecated, or new
    name = "model.0.weight"
    replaced: dict[str, Callable[[], object]] = {
        "quantised": lambda: torch.quantize_per_tensor(torch.ones(16, 3, 3, 3), 0.1, 0, torch.qint8),
        "sparse": lambda: torch.ones(16, 27).to_sparse(),
        "compressed": lambda: torch.ones(16, 27).to_sparse_csr(),
        "of no dimension": lambda: torch.tensor(1.0),
        "of no value": lambda: torch.ones(16, 0, 3, 3),
        "of ten dimensions": lambda: torch.ones([1] * 10),
        "without data": lambda: torch.ones(16, 3, 3, 3, device="meta"),
        "larger than its data": lambda: torch.ones(1).expand(16, 3, 3, 3),
        "of 10^15 values": lambda: torch.ones(1).expand(10**5, 10**5, 10**5),
        "conjugated": lambda: torch.ones(16, 3, 3, 3, dtype=torch.complex64).conj(),
        "negated": lambda: torch._neg_view(torch.ones(16, 3, 3, 3)),
        "of NaN": lambda: torch.full((16, 3, 3, 3), float("nan")),
        "of 3e38": lambda: torch.full((16, 3, 3, 3), 3e38),
        "a parameter": lambda: torch.nn.Parameter(torch.ones(16, 3, 3, 3)),
        "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "a list": lambda: [1, 2],
        "a text": lambda: "\x1b]0;x\x07",
        "a number": lambda: 10**5000,
    }
    states: dict[str, Callable[[dict[str, Any]], object]] = {
        f"weight {what}": (lambda state, value=value: {**state, name: value()}) for what, value in replaced.items()
    }
    return states | {
        "cycle": _cycle,
        "deep": lambda state: _deep(state, 200),
        "no name": lambda state: {**state, None: torch.ones(1)},
        "number for a name": lambda state: {**state, 10**5000: torch.ones(1)},
        "control characters": lambda state: {**state, "\x1b]0;x\x07\n": torch.ones(1)},
        "name of 10^6 characters": lambda state: {**state, "x" * 10**6: torch.ones(1)},
        "10^4 weights": lambda state: {f"model.{index}": torch.ones(1) for index in range(10**4)},
        "channels that do not fit": lambda state: {**state, name: torch.ones(16, 5, 3, 3)},
        "list": lambda state: [state],
        "one tensor": lambda state: state[name],
        "none": lambda state: {},
        "wrapped in itself": lambda state: {"params": {"params": {}}, **state},
    }


def _cycle(state: dict[str, Any]) -> object:
    state["state_dict"] = state
    return {"params": state}


def _deep(state: dict[str, Any], depth: int) -> object:
    content: object = state
    for _ in range(depth):
        content = {"a": content}
    return content


def _pickles() -> dict[str, bytes]:
    doubled = b"\x80\x02" + b"]" + b"".join(b"q" + bytes([n]) + b"]" + b"h" + bytes([n]) * 1 + b"ah" + bytes([n]) + b"a"
                                            for n in range(60)) + b"."  # fmt: skip
    return {
        "code": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        "deep": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        "doubling": doubled,
        "long of 2^31 bytes": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\1" * 100 + b".",
        "text of 2^62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "memo at 2^32": b"\x80\x02]r\xff\xff\xff\xff.",
        "stack that is empty": b"\x80\x02.",
        "protocol 255": b"\x80\xff}.",
        "frame of 2^63": b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
        "number": pickle.dumps(10**4000, 2),
        "zip without a pickle": b"PK\x05\x06" + bytes(18),
    }


def _safetensors(kind: str, dice: random.Random) -> Files:
    size = {"BOOL": 1, "F8_E4M3": 1, "C64": 8, "U64": 8, "F4": 1}.get(kind, 4)
    count = 16 * 27
    header = {"model.0.weight": {"dtype": kind, "shape": [16, 3, 3, 3], "data_offsets": [0, size * count]}}
    return {"safetensors": _with_header(json.dumps(header).encode(), dice.randbytes(size * count))}


def _with_header(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _headers() -> Iterator[tuple[str, bytes]]:
    def entry(shape: str = "[4]", offsets: str = "[0, 16]", name: str = "a") -> bytes:
        return f'{{"{name}": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}'.encode()

    data = bytes(16)
    yield "header of 2^63 bytes", _with_header(entry(), data, 2**63)
    yield "header of no byte", _with_header(b"", data)
    yield "deep header", _with_header(b"[" * 10**5, data)
    yield "shape of 2^63", _with_header(entry(f"[{2**63}, {2**63}]"), data)
    yield "negative shape", _with_header(entry("[-4]"), data)
    yield "offsets beyond the end", _with_header(entry(offsets="[0, 99999999]"), data)
    yield "offsets that run backwards", _with_header(entry(offsets="[16, 0]"), data)
    yield "no dimension", _with_header(entry("[]", "[0, 4]"), data)
    yield "control characters", _with_header(entry(name="\\u001b]0;x\\u0007\\n"), data)
    yield "lone surrogate", _with_header(entry(name="\\ud800"), data)
    yield "no JSON", _with_header(b"\xff\xfe{}", data)


def _params() -> dict[str, str]:
    head, tail = "7767517\n", "Input in 0 1 in\n"
    conv = "Convolution c 1 1 in out 0={outputs} 1={kernel} 6={weights} 4=1 5=1\n"
    return {
        "10^9 layers": f"{head}1000000000 1000000000\n{tail}",
        "negative counts": f"{head}-1 -1\n{tail}",
        "no count": f"{head}\n{tail}",
        "layer of 10^12 weights": f"{head}2 2\n{tail}" + conv.format(outputs=10**6, kernel=1000, weights=10**12),
        "layer without weights": f"{head}2 2\n{tail}" + conv.format(outputs=0, kernel=0, weights=0),
        "negative kernel": f"{head}2 2\n{tail}" + conv.format(outputs=3, kernel=-3, weights=81),
        "cycle": f"{head}2 2\nReLU a 1 1 p q\nReLU b 1 1 q p\n",
        "unknown layer": f"{head}2 2\n{tail}Nonsense n 1 1 in out\n",
        "control characters": f"{head}2 2\n{tail}\x1b]0;x\x07 n 1 1 in out\n",
        "lines cut short": f"{head}2 2\n{tail}Convolution c 1",
        "numbers without end": f"{head}2 2\n{tail}Convolution c 1 1 in out 0={'9' * 6000}\n",
        "other magic": f"1\n2 2\n{tail}",
        "scale of 10^9": f"{head}2 2\n{tail}Interp i 1 1 in out 0=1 1=1e9 2=1e9\n",
    }
