import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from support.networks import nafnet, scunet
from support.toys import conv_model, identity_model, noise_image, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import Device
from sr_tile.errors import ArgumentError, ModelError, ModelLoadError, PrecisionLossError
from sr_tile.export.export import ExportOptions, export_as
from sr_tile.export.precision import PRECISIONS, convert, fp16, pictures, store_fp16, to_fp16, to_int8
from sr_tile.export.precision.compare import Runner, psnr_loss, read_spec
from sr_tile.export.precision.int8 import quantisable
from sr_tile.export.precision.onnx_passes import load_float, without_repeats
from sr_tile.models.spec import METADATA_KEY, ModelSpec
from sr_tile.models.synthetic_images import scenes

SPEC = ModelSpec("toy", scale=2, multiple=1, halo=3, details={"licence": "MIT"}).to_metadata()


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "_SIDE", 32)
    monkeypatch.setattr(pictures, "_CALIBRATION", 5)
    monkeypatch.setattr(pictures, "_JUDGEMENT", 5)


def toy(tmp_path, **keywords):
    return conv_model(tmp_path / "toy.onnx", metadata=SPEC, out_shape=("n", 3, "H", "W"), **keywords)


def gain_model(path, gain, scale=1):
    """The identity at heart, whose middle is larger by `gain`; a layer before and one after."""
    eye = np.eye(3, dtype=np.float32)[..., None, None]
    nodes = [
        helper.make_node("Conv", ["input", "eye"], ["a"], "first"),
        helper.make_node("Mul", ["a", "gain"], ["b"], "grow"),
        helper.make_node("Mul", ["b", "undo"], ["c"], "shrink"),
        helper.make_node("Conv", ["c", "eye"], ["output"], "last"),
    ]
    weights = {"eye": eye, "gain": np.array(gain, np.float32), "undo": np.array(1 / gain, np.float32)}
    return save_model(path, nodes, weights=weights)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_smaller_and_near_and_keeps_what_the_file_said(tmp_path, precision):
    source, target = toy(tmp_path, depth=4), tmp_path / "out.onnx"
    report = convert(source, target, precision)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "toy.onnx"]
    assert report.bytes_after == target.stat().st_size
    assert report.psnr > 35
    assert report.loss_db <= 0.2
    assert report.speed > 0
    onnx.checker.check_model(onnx.load(target))
    engine, before = OnnxEngine(target, "cpu"), OnnxEngine(source, "cpu")
    assert engine.spec == before.spec
    assert engine.spec.details["licence"] == "MIT"
    assert engine.spec.details["precision"] == precision
    assert engine.spec.details["precision_verification"]["psnr_to_fp32_db"] == pytest.approx(report.psnr, abs=0.01)
    batch = np.stack(scenes(5, 34, seed=2))[..., :21, :].transpose(0, 3, 1, 2)
    wanted = before.run(batch)
    assert np.abs(engine.run(batch) - wanted).max() < (0.1 if precision == "int8" else 5e-3) * np.abs(wanted).max()


def test_input_and_output_stay_float32(tmp_path):
    to_fp16(toy(tmp_path), tmp_path / "half.onnx")
    graph = onnx.load(tmp_path / "half.onnx").graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {TensorProto.FLOAT}
    assert {tensor.data_type for tensor in graph.initializer} == {TensorProto.FLOAT16}


def test_what_overflows_stays_in_float32(tmp_path):
    source, target = gain_model(tmp_path / "toy.onnx", 60000.0 * 4), tmp_path / "half.onnx"
    report = to_fp16(source, target)
    assert set(report.kept_float) == {"grow", "shrink"}
    model = onnx.load(target)
    # The value between the two is never float16: a GPU would make infinity of it.
    made = {name: node for node in model.graph.node for name in node.output}
    (shrink,) = (node for node in model.graph.node if node.name == "shrink")
    assert made[shrink.input[0]].name == "grow"
    batch = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    np.testing.assert_allclose(OnnxEngine(target, "cpu").run(batch), batch, atol=1e-3)


def test_what_loses_too_much_stays_in_float32(tmp_path):
    """A small difference of large numbers, far from overflowing."""
    weights = {"far": np.array(1000, np.float32)}
    nodes = [
        helper.make_node("Add", ["input", "far"], ["a"], "away"),
        helper.make_node("Sub", ["a", "far"], ["output"], "back"),
    ]
    source = save_model(tmp_path / "toy.onnx", nodes, weights=weights, metadata='{"multiple": 1}')
    assert set(to_fp16(source, tmp_path / "half.onnx").kept_float) == {"away", "back"}


def test_nodes_are_measured_as_numpy_rounds(tmp_path):
    rng = np.random.default_rng(0)
    batch = rng.random((1, 3, 16, 16), np.float32)
    model = load_float(
        save_model(tmp_path / "toy.onnx", [helper.make_node("Mul", ["input", "input"], ["output"], "m")])
    )
    (error,) = fp16.measure_nodes(model, [batch])
    half = batch.astype(np.float16).astype(np.float32)
    rounded, exact = (half * half).astype(np.float16).astype(np.float64), (batch * batch).astype(np.float64)
    assert error.node == "m"
    assert error.peak == pytest.approx(exact.max(), rel=1e-6)
    assert error.error == pytest.approx(np.linalg.norm(rounded - exact) / np.linalg.norm(exact), rel=1e-3)
    assert np.array_equal(Runner(fp16.emulate(model, []))(batch), half * half)
    assert np.array_equal(Runner(fp16.emulate(model, ["m"]))(batch), batch * batch)


def test_weights_in_float16_are_folded_at_load(tmp_path):
    source, target = toy(tmp_path, depth=4), tmp_path / "half.onnx"
    report = store_fp16(source, target)
    assert report.bytes_after < 0.8 * report.bytes_before
    assert sum(node.op_type == "Cast" for node in onnx.load(target).graph.node) == 4
    open_session(target, Device("cpu"), optimized_model_filepath=str(tmp_path / "loaded.onnx"))
    assert not any(node.op_type == "Cast" for node in onnx.load(tmp_path / "loaded.onnx").graph.node)


@pytest.mark.parametrize("function", [to_fp16, store_fp16])
def test_a_model_that_misses_the_bound_leaves_no_file(tmp_path, monkeypatch, function):
    monkeypatch.setattr(fp16, "MAX_RELATIVE_ERROR", -1.0)
    source = toy(tmp_path)
    with pytest.raises(PrecisionLossError, match="nothing was written"):
        function(source, tmp_path / "half.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["toy.onnx"]


def test_int8_leaves_alone_what_the_bound_asks_for(tmp_path):
    source = conv_model(tmp_path / "toy.onnx", scale=1, depth=5)
    kept = []
    for bound in (20.0, 0.05, 0.01):
        report = to_int8(source, tmp_path / "int8.onnx", max_loss_db=bound)
        assert report.loss_db <= bound
        kept.append(len(report.kept_float))
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert kept[-1] > 0


def test_int8_that_misses_the_bound_leaves_the_old_file(tmp_path):
    source, target = toy(tmp_path), tmp_path / "int8.onnx"
    target.write_bytes(b"old")
    with pytest.raises(PrecisionLossError, match="nothing was written"):
        to_int8(source, target, max_loss_db=-1.0)
    with pytest.raises(PrecisionLossError, match="no layer"):
        to_int8(identity_model(tmp_path / "identity.onnx"), target)
    assert target.read_bytes() == b"old"
    assert not list(tmp_path.glob("*.part"))


def test_int8_has_a_scale_for_each_channel_and_no_signed_activations(tmp_path):
    to_int8(toy(tmp_path, depth=4), tmp_path / "int8.onnx", max_loss_db=20)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [
        node for node in graph.node if node.op_type == "DequantizeLinear" and values.get(node.input[0]) is not None
    ]
    kernels = [node for node in weights if values[node.input[0]].ndim == 4]
    assert len(kernels) == 2  # the first and the last layer stay float32
    for node in kernels:
        assert values[node.input[0]].dtype == np.int8
        assert values[node.input[1]].shape == values[node.input[0]].shape[:1]
        assert not values[node.input[2]].any()
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert values[node.input[2]].dtype == np.uint8


def test_first_and_last_layers_skips_and_what_comes_after_are_not_quantised(tmp_path):
    eye = np.eye(3, dtype=np.float32)[..., None, None]
    nodes = [
        helper.make_node("Conv", ["input", "eye"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Add", ["b", "input"], ["c"], "add"),
        helper.make_node("Conv", ["c", "eye"], ["d"], "two"),
        helper.make_node("Relu", ["d"], ["e"], "last relu"),
        helper.make_node("Conv", ["e", "eye"], ["f"], "last"),
        helper.make_node("Conv", ["input", "eye"], ["g"], "skip"),
        helper.make_node("Add", ["f", "g"], ["h"], "sum"),
        helper.make_node("Clip", ["h"], ["output"], "clip"),
    ]
    model = load_float(save_model(tmp_path / "m.onnx", nodes, weights={"eye": eye}))
    assert quantisable(model) == ["relu", "add", "two", "last relu"]


def test_an_only_layer_is_quantised(tmp_path):
    eye = np.eye(3, dtype=np.float32)[..., None, None]
    nodes = [helper.make_node("Conv", ["input", "eye"], ["output"], "only")]
    assert quantisable(load_float(save_model(tmp_path / "m.onnx", nodes, weights={"eye": eye}))) == ["only"]


def test_a_folder_calibrates(tmp_path):
    folder = tmp_path / "photos" / "more"
    folder.mkdir(parents=True)
    Image.fromarray(noise_image(300, 400)).save(folder / "large.png")
    Image.fromarray(noise_image(40, 50, 1)[..., 0]).save(folder / "small.png")
    spec = read_spec(toy(tmp_path))
    first, second = pictures.pictures_for(spec, tmp_path / "photos")
    assert len(first.inputs) > len(second.inputs) > 0
    for part in (first, second):
        for small, truth in zip(part.inputs, part.truths, strict=True):
            assert small.dtype == truth.dtype == np.float32
            assert truth.shape == (1, 3, 2 * small.shape[2], 2 * small.shape[3])
    report = to_int8(tmp_path / "toy.onnx", tmp_path / "int8.onnx", calibrate=tmp_path / "photos", max_loss_db=20)
    assert report.psnr > 20
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="no images"):
        to_int8(tmp_path / "toy.onnx", tmp_path / "int8.onnx", calibrate=tmp_path / "empty")


@pytest.mark.parametrize("keywords", [{"shape": (2, 3, 24, 32)}, {"channels": 1, "shape": ("n", 1, "h", "w")}])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_fixed_shapes_gray_and_other_ranges(tmp_path, keywords, precision):
    metadata = ModelSpec("toy", scale=2, multiple=1, value_range=(-1.0, 1.0)).to_metadata()
    source = conv_model(tmp_path / "toy.onnx", metadata=metadata, **keywords)
    assert convert(source, tmp_path / "out.onnx", precision, max_loss_db=20).psnr > 20


def test_what_cannot_be_converted_says_so(tmp_path):
    source = toy(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(source.read_bytes()[:-50])
    with pytest.raises(ArgumentError, match="fp16-storage"):
        convert(source, tmp_path / "out.onnx", "int4")
    to_fp16(source, tmp_path / "half.onnx")
    for name, word in (("broken.onnx", "ONNX"), ("half.onnx", "made of")):
        for precision in PRECISIONS:
            with pytest.raises(ModelLoadError, match=word):
                convert(tmp_path / name, tmp_path / "out.onnx", precision)
    assert not (tmp_path / "out.onnx").exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="cannot be written"):
        store_fp16(toy(tmp_path), tmp_path / "no" / "half.onnx")


def test_loss_is_that_of_psnr_where_the_truth_is_known_and_adds_squares_where_not():
    rng = np.random.default_rng(0)
    truth = rng.random((64, 64, 3))
    before = truth + 0.03 * rng.standard_normal(truth.shape)
    after = before + 0.02 * rng.standard_normal(truth.shape)
    known = psnr_loss(before, after, truth)
    assert known == pytest.approx(10 * np.log10(13 / 9), abs=0.1)
    change = np.mean((after - before) ** 2)
    assert psnr_loss(before, after, None) == pytest.approx(10 * np.log10(1 + change * 10**3.5))
    assert psnr_loss(before, before, None) == psnr_loss(before, before, truth) == 0


def test_the_report_is_one_line_and_the_metadata_json(tmp_path):
    report = to_fp16(toy(tmp_path), tmp_path / "half.onnx")
    assert "\n" not in str(report)
    props = {entry.key: entry.value for entry in onnx.load(tmp_path / "half.onnx").metadata_props}
    assert json.loads(props[METADATA_KEY])["precision"] == "fp16"


def test_nodes_of_one_name_are_told_apart():
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name="same") for i in range(3)]
    graph = helper.make_graph(nodes, "g", [], [])
    graph.node.append(helper.make_node("Relu", ["t0"], ["t1"], name="again"))
    names = [node.name for node in without_repeats(helper.make_model(graph)).graph.node]
    assert names == ["same", "same_1", "same_2"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "precision"), [("nafnet", "fp16"), ("nafnet", "int8"), ("scunet", "fp16")])
def test_what_the_exporter_writes_can_be_converted(tmp_path, kind, precision):
    network = nafnet(3, 8, (1,), 1, (1,)) if kind == "nafnet" else scunet(config=(0, 1, 0, 1, 0, 1, 0), dim=32)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    exported, report = export_as(tmp_path / "net.pth", tmp_path / "net.onnx", ExportOptions(precision, max_loss_db=3.0))
    assert exported.worst_error < 1e-5
    assert precision == "int8" or report.bytes_after < report.bytes_before  # a tiny int8 graph is mostly scales
    engine = OnnxEngine(tmp_path / "net.onnx", "cpu")
    assert engine.run(np.full((2, 3, 65, 64), 0.5, np.float32)).shape == (2, 3, 65, 64)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".onnx"] == ["net.onnx"]
