import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.toys import conv_model, identity_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ModelLoadError
from sr_tile.models.onnx_files import check_references, load_model, tensors


def external(location, dims=(1, 3, 1, 1), **numbers):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **numbers}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def claimed(*dims):
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(12))


def save(path, tensor, as_attribute=False):
    """A model that adds `tensor` to the picture."""
    nodes = [helper.make_node("Add", ["input", "w"], ["output"])]
    if as_attribute:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    inputs = [helper.make_tensor_value_info("input", 1, ("n", 3, "h", "w_"))]
    outputs = [helper.make_tensor_value_info("output", 1, None)]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, [] if as_attribute else [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    values = np.array([1, 2, 3], np.float32).tobytes()
    (tmp_path / "secret.bin").write_bytes(values)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "own.bin").write_bytes(values)
    (inner / "link.bin").symlink_to("../secret.bin")
    (inner / "circle").symlink_to("circle")
    return inner


@pytest.mark.parametrize("load", [lambda p: OnnxEngine(p, "cpu"), load_model])
@pytest.mark.parametrize("as_attribute", [False, True])
@pytest.mark.parametrize(
    ("location", "keywords", "words"),
    [
        ("../secret.bin", {}, "outside of the model's folder"),
        ("{absolute}", {}, "outside of the model's folder"),
        ("x/../../secret.bin", {}, "outside of the model's folder"),
        ("link.bin", {}, "outside of the model's folder"),
        ("/proc/self/environ", {"length": 12}, "outside of the model's folder"),
        ("", {}, "outside of the model's folder"),
        ("gone.bin", {}, "missing"),
        (".", {}, "missing"),
        ("circle", {}, "missing"),
        ("n" * 5000, {}, "missing"),
        ("own.bin", {"length": "9" * 5000}, "no size"),
        ("own.bin", {"offset": -8}, "no size"),
        ("own.bin", {"offset": 1 << 40}, "claims"),
        ("own.bin", {"length": 13}, "claims"),
        ("own.bin", {"dims": (1, 3, 30000, 30000)}, "claims"),
    ],
)
def test_weights_are_read_from_the_models_own_folder_only(folder, load, as_attribute, location, keywords, words):
    location = location.format(absolute=folder.parent / "secret.bin")
    path = save(folder / "m.onnx", external(location, **keywords), as_attribute)
    before = sorted(folder.rglob("*"))
    with pytest.raises(ModelLoadError) as caught:
        load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


def test_weights_beside_the_model_are_fine(folder):
    path = save(folder / "m.onnx", external("own.bin"))
    assert numpy_helper.to_array(load_model(path).graph.initializer[0]).ravel().tolist() == [1, 2, 3]
    result = OnnxEngine(path, "cpu").run(np.zeros((1, 3, 8, 8), np.float32))
    assert result[0, :, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("load", [lambda p: OnnxEngine(p, "cpu"), load_model])
@pytest.mark.parametrize("dims", [(1, 3, 30000, 30000), (1 << 31, 1 << 31), (1, -3, 3, 3)])
@pytest.mark.parametrize("as_attribute", [False, True])
def test_tensors_larger_than_their_data_are_refused(tmp_path, load, dims, as_attribute):
    with pytest.raises(ModelLoadError) as caught:
        load(save(tmp_path / "m.onnx", claimed(*dims), as_attribute))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [lambda p: OnnxEngine(p, "cpu"), load_model])
def test_truncated_files_are_refused_wherever_they_end(tmp_path, load):
    whole = conv_model(tmp_path / "m.onnx").read_bytes()
    for end in [0, 1, 10, *range(30, len(whole) - 1, len(whole) // 23), len(whole) - 1]:
        (tmp_path / "m.onnx").write_bytes(whole[:end])
        with pytest.raises(ModelLoadError):
            load(tmp_path / "m.onnx")


def test_the_word_alone_is_no_reason_to_refuse(tmp_path):
    path = identity_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.doc_string = "location, location, location"
    onnx.save(model, path)
    check_references(path)
    assert OnnxEngine(path, "cpu").spec.scale == 1


def test_constants_are_found_in_graphs_inside_of_graphs(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=external("../secret.bin"))],
        "branch",
        [],
        [helper.make_tensor_value_info("out", 1, None)],
    )
    node = helper.make_node("If", ["condition"], ["output"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([node], "toy", [], [helper.make_tensor_value_info("output", 1, None)])
    model = helper.make_model(graph)
    assert len(list(tensors(model))) == 2
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match="outside"):
        check_references(tmp_path / "m.onnx")


def test_a_plain_model_is_checked_without_parsing_it(tmp_path):
    path = identity_model(tmp_path / "m.onnx")
    code = "import sys, pathlib\n"
    code += f"from sr_tile.models.onnx_files import check_references as c; c(pathlib.Path({str(path)!r}))"
    code += "; print('onnx' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def with_functions(path, *functions):
    """A model that calls the first of some functions, each a list of the operators or functions that it calls in turn."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]

    def nodes(calls, source, target):
        names = [source, *(f"v{number}" for number in range(1, len(calls))), target]
        return [
            helper.make_node(call, [names[at]], [names[at + 1]], domain="own" if call.startswith("F") else "")
            for at, call in enumerate(calls)
        ]

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("input", "output")]
    graph = helper.make_graph(nodes(["F0"], "input", "output"), "g", value[:1], value[1:])
    made = [
        helper.make_function("own", f"F{number}", ["a"], ["b"], nodes(calls, "a", "b"), opsets)
        for number, calls in enumerate(functions)
    ]
    onnx.save(helper.make_model(graph, functions=made, opset_imports=opsets, ir_version=9), path)
    return path


def test_functions_are_fine(tmp_path):
    path = with_functions(tmp_path / "m.onnx", ["F1", "F1", "Neg"], ["Neg", "Identity"])
    picture = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    assert np.array_equal(OnnxEngine(path, "cpu").run(picture), -picture)


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ([*([f"F{number + 1}"] * 2 for number in range(24)), ["Neg"]], "more than 1000000 times"),
        ([*([f"F{number + 1}"] for number in range(300)), ["Neg"]], "more than 200 deep"),
        ([["F0"]], "more than 200 deep"),
        ([["F1", "F1"], ["F0", "F0"]], "more than 1000000 times"),
    ],
    ids=["multiply", "deep", "itself", "each other"],
)
def test_functions_without_end_are_refused_before_a_runtime_unfolds_them(tmp_path, functions, words):
    path = with_functions(tmp_path / "m.onnx", *functions)
    with pytest.raises(ModelLoadError, match=words):
        OnnxEngine(path, "cpu")


def hidden(path, how):
    """Functions that multiply, as above, where a look at their own nodes and names does not show it."""
    model = onnx.load(with_functions(path, *([f"F{number + 1}"] * 2 for number in range(24)), ["Neg"]))
    if how == "by the graph":  # a function of many nodes, called many times
        model = onnx.load(with_functions(path, ["Neg"] * 1100))
        calls = [helper.make_node("F0", [f"v{at}"], [f"v{at + 1}"], domain="own") for at in range(1000)]
        calls[0].input[0], calls[-1].output[0] = "input", "output"
        del model.graph.node[:]
        model.graph.node.extend(calls)
    for function in model.functions if how == "in branches" else ():
        nodes = list(function.node)
        branch = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info(nodes[-1].output[0], 1, None)])
        del function.node[:]
        true = helper.make_node("Constant", [], ["true"], value=onnx.numpy_helper.from_array(np.array(True)))
        function.node.extend([true, helper.make_node("If", ["true"], ["b"], then_branch=branch, else_branch=branch)])
    if how == "as overloads":
        for function in model.functions:
            function.name, function.overload = "F0", function.name
            for node in function.node:
                node.op_type, node.overload = (node.op_type, "") if node.op_type == "Neg" else ("F0", node.op_type)
        model.graph.node[0].overload = "F0"
        model.ir_version = 10
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("how", ["by the graph", "in branches", "as overloads"])
def test_functions_that_multiply_out_of_sight_are_refused_too(tmp_path, how):
    path = hidden(tmp_path / "m.onnx", how)
    with pytest.raises(ModelLoadError, match="more than 1000000 times"):
        check_references(path)


CUT_LATER = """
import os, sys, numpy as np
from sr_tile.engines.factory import open_engine
from sr_tile.errors import ModelOutputError
engine = open_engine("m.onnx", sys.argv[1])
os.truncate("sub/w.bin", 0)
try:
    print(engine.run(np.zeros((1, 3, 64, 64), np.float32)).max())
except ModelOutputError:
    print("refused")
"""


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("location", ["sub/w.bin", "./sub/w.bin"])
def test_weights_that_are_cut_short_after_they_were_opened_end_no_process(tmp_path, device, location):
    """Runtimes map files of weights into memory, and touching what is gone ended the process by SIGBUS."""
    (tmp_path / "sub").mkdir()
    weights = np.zeros((3, 1500, 1500), np.float32)
    weights[0] = 0.5
    weights.tofile(tmp_path / "sub" / "w.bin")
    names = ("x", "y")
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", 3, "h", "w_")) for name in names]
    nodes = [
        helper.make_node("Shape", ["x"], ["height"], start=2, end=3),
        helper.make_node("Sub", ["height", "height"], ["zero"]),
        helper.make_node("Gather", ["w", "zero"], ["first"], axis=0),
        helper.make_node("ReduceMax", ["first"], ["most"], keepdims=0),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "toy", faces[:1], faces[1:], [external(location, weights.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"sr_tile": '{"scale": 1, "multiple": 1, "halo": 0}'})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", CUT_LATER, device], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "0.5\n" if device == "cpu" else "refused\n"), done.stderr


def test_a_model_that_is_cut_short_while_it_is_looked_through_is_no_end_of_the_process(tmp_path):
    conv_model(tmp_path / "m.onnx", 2)
    code = """
import os, pathlib
from sr_tile.models import onnx_files
def cut(file, look=onnx_files._names_files):
    os.truncate("m.onnx", 0)
    return look(file)
onnx_files._names_files = cut
print(onnx_files.check_references(pathlib.Path("m.onnx")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


def test_the_word_is_found_across_blocks_and_many_fields_are_left_to_the_parser(tmp_path, monkeypatch):
    path = save(tmp_path / "m.onnx", external("../secret.bin"))
    for size in range(7, 40):
        monkeypatch.setattr("sr_tile.models.onnx_files._BLOCK", size)
        with pytest.raises(ModelLoadError, match="outside"):
            check_references(path)
    monkeypatch.setattr("sr_tile.models.onnx_files._MOST_FIELDS", 2)
    path = with_functions(tmp_path / "f.onnx", *([f"F{number + 1}"] * 2 for number in range(24)), ["Neg"])
    with pytest.raises(ModelLoadError, match="times"):
        check_references(path)
