import doctest
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.toys import conv_model, identity_model, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ArgumentError, ModelError
from sr_tile.rebatch import dynamic_shapes
from sr_tile.rebatch.rebatch import RebatchOptions, rebatch


def picture(rows=3, height=24, width=32, channels=3, seed=0):
    return np.random.default_rng(seed).random((rows, channels, height, width), np.float32)


def reshape(data, shape, result):
    return helper.make_node("Reshape", [data, shape], [result], name=f"to_{result}")


def transpose(data, result, *perm):
    return helper.make_node("Transpose", [data], [result], perm=list(perm))


def window_model(path, batch=1, *, leading=None, rest=-1, joined=False):
    """Attention-like: 2 x 2 windows of a picture of 24 x 32 are cut, scaled by their own mean, and put back."""
    cut = np.array([batch, 3, 12, 2, 16, 2])
    windows = np.array([batch * 12 * 16 if leading is None else leading, 3, rest])
    back = np.array([batch, 12, 16, 3, 2, 2])
    whole = np.array([batch, 3, 24, 32])
    nodes = [
        reshape("input", "cut", "a"),
        transpose("a", "b", 0, 2, 4, 1, 3, 5),
        reshape("b", "windows", "c"),
        helper.make_node("ReduceMean", ["c"], ["mean"], axes=[-1], keepdims=1),
        helper.make_node("Mul", ["c", "mean"], ["d"]),
        reshape("d", "back", "e"),
        transpose("e", "f", 0, 3, 1, 4, 2, 5),
    ]
    weights = {"cut": cut, "windows": windows, "back": back}
    if joined:
        weights["first"], weights["others"] = whole[:1], whole[1:]
        nodes += [
            helper.make_node("Concat", ["first", "others"], ["whole"], axis=0),
            reshape("f", "whole", "output"),
        ]
    else:
        weights["whole"] = whole
        nodes.append(reshape("f", "whole", "output"))
    return save_model(path, nodes, weights=weights, shape=(batch, 3, 24, 32), out_shape=(batch, 3, 24, 32))


def windows_of(batch_nchw):
    """What `window_model` computes, without it."""
    mean = batch_nchw.reshape(*batch_nchw.shape[:2], 12, 2, 16, 2).mean(axis=(3, 5))
    return batch_nchw * mean.repeat(2, axis=2).repeat(2, axis=3)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("rest", [-1, 4])
def test_a_batch_baked_into_shapes_becomes_free(tmp_path, batch, joined, rest):
    source = window_model(tmp_path / "in.onnx", batch, joined=joined, rest=rest)
    report = rebatch(source, tmp_path / "out.onnx")
    engine = OnnxEngine(tmp_path / "out.onnx", "cpu")
    assert engine.spec.fixed_batch is None
    assert engine.spec.fixed_tile == (24, 32)
    assert len(report.changes) == 4
    for rows in (1, 2, 3, 5):
        np.testing.assert_allclose(engine.run(picture(rows)), windows_of(picture(rows)), atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"in.onnx", "out.onnx"}


@pytest.mark.parametrize("shape", [(1, 3, 24, 32), (2, 3, "h", "w"), (1, 3, "h", "w"), ("n", 3, 24, 32)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_kind_of_fixed_input_becomes_free_and_fixed_again(tmp_path, shape, dtype):
    source = identity_model(
        tmp_path / "in.onnx", 2, shape=shape, dtype=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    )
    rebatch(source, tmp_path / "free.onnx", RebatchOptions("dynamic", "dynamic"))
    free = OnnxEngine(tmp_path / "free.onnx", "cpu")
    assert (free.spec.fixed_batch, free.spec.fixed_tile) == (None, None)
    rebatch(tmp_path / "free.onnx", tmp_path / "fixed.onnx", RebatchOptions(4, (16, 20)))
    fixed = OnnxEngine(tmp_path / "fixed.onnx", "cpu")
    assert (fixed.spec.fixed_batch, fixed.spec.fixed_tile, fixed.spec.scale) == (4, (16, 20), 2)
    for engine in (free, fixed):
        batch = picture(5, 16, 20).astype(np.float16).astype(np.float32)
        assert np.array_equal(engine.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))


def test_stale_shapes_of_the_fixed_model_are_gone(tmp_path):
    source = conv_model(tmp_path / "in.onnx", shape=(1, 3, 24, 32), out_shape=(1, 3, 48, 64))
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(source)), source)
    rebatch(source, tmp_path / "out.onnx", RebatchOptions("dynamic", "dynamic"))
    model = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(model, full_check=True)
    for item in (*model.graph.value_info, *model.graph.output):
        dims = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        assert not dims or (dims[0] == 0 and dims[2:] == [0, 0])


def resize_model(path, sizes, joined):
    weights = {"sizes": np.array(sizes)}
    nodes = []
    if joined:  # as an exporter does that takes batch and channels from the data, and bakes the sides
        weights = {"from": np.array([0]), "to": np.array([2]), "sides": np.array(sizes[2:])}
        nodes = [
            helper.make_node("Shape", ["input"], ["shape"]),
            helper.make_node("Slice", ["shape", "from", "to"], ["front"]),
            helper.make_node("Concat", ["front", "sides"], ["sizes"], axis=0),
        ]
    node = helper.make_node(
        "Resize",
        ["input", "", "", "sizes"],
        ["output"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return save_model(path, [*nodes, node], weights=weights, shape=(1, 3, 24, 32))


@pytest.mark.parametrize("joined", [False, True])
def test_sizes_of_a_resize_become_scales(tmp_path, joined):
    rebatch(
        resize_model(tmp_path / "in.onnx", [1, 3, 48, 64], joined),
        tmp_path / "out.onnx",
        RebatchOptions("dynamic", "dynamic"),
    )
    engine = OnnxEngine(tmp_path / "out.onnx", "cpu")
    batch = picture(3, 40, 50)
    assert np.array_equal(engine.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))


def shuffle_model(path, batch=1, side=(24, 32)):
    """A pixel shuffle by 2 written as an exporter with a fixed size writes it, behind a convolution."""
    height, width = side
    weights = {
        "w": np.random.default_rng(0).standard_normal((12, 3, 3, 3)).astype(np.float32),
        "split": np.array([batch, 3, 2, 2, height, width]),
        "merge": np.array([batch, 3, height * 2, width * 2]),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], pads=[1, 1, 1, 1]),
        reshape("c", "split", "s"),
        transpose("s", "t", 0, 1, 4, 2, 5, 3),
        reshape("t", "merge", "output"),
    ]
    return save_model(path, nodes, weights=weights, shape=(batch, 3, height, width))


@pytest.mark.parametrize("batch", [1, 2])
def test_sides_baked_into_shapes_become_free_where_they_can_be_told(tmp_path, batch):
    rebatch(shuffle_model(tmp_path / "in.onnx", batch), tmp_path / "out.onnx", RebatchOptions("dynamic", "dynamic"))
    engine = OnnxEngine(tmp_path / "out.onnx", "cpu")
    for side in ((24, 32), (17, 45), (1, 1)):
        independent = OnnxEngine(shuffle_model(tmp_path / "same.onnx", 3, side), "cpu")
        np.testing.assert_allclose(engine.run(picture(3, *side)), independent.run(picture(3, *side)), atol=1e-6)


def test_shapes_follow_their_data():
    assert doctest.testmod(dynamic_shapes).failed == 0
    assert dynamic_shapes.infer_reshape([2, 8, 1, 5], [2, 8, 5]) is not None
    assert dynamic_shapes.infer_reshape([2, 8, 5], [2, 1, 8, 5]) is not None
    assert dynamic_shapes.infer_reshape([1, 3, 24, 32], [1, 3, 12, 2, 16, 2]) is None


def rows_turned_model(path):
    """Its reshape does not begin with the batch, so that -1 in its leading entry means something else."""
    nodes = [transpose("input", "a", 2, 1, 0, 3), reshape("a", "s", "b"), transpose("b", "output", 1, 2, 0, 3)]
    return save_model(path, nodes, weights={"s": np.array([24, 1, 3, 32])}, shape=(1, 3, 24, 32))


def joined_model(path):
    """Joins a constant of one row to the picture."""
    weights = {"c": np.zeros((1, 3, 24, 8), np.float32)}
    weights |= {name: np.array([value]) for name, value in (("from", 0), ("to", 32), ("axis", 3))}
    nodes = [
        helper.make_node("Concat", ["input", "c"], ["d"], axis=3),
        helper.make_node("Slice", ["d", "from", "to", "axis"], ["output"]),
    ]
    return save_model(path, nodes, weights=weights, shape=(1, 3, 24, 32))


def mixing_model(path):
    """The brightest of all rows brightens each."""
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["m"], axes=[0], keepdims=1, name="most"),
        helper.make_node("Mul", ["input", "m"], ["output"]),
    ]
    return save_model(path, nodes, shape=(1, 3, 24, 32))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (window_model, RebatchOptions("dynamic", "dynamic"), "node to_a (Reshape) prevents a dynamic size"),
        (rows_turned_model, RebatchOptions(), "(Transpose)"),
        (joined_model, RebatchOptions(), "(Concat) prevents batch dynamic"),
        (mixing_model, RebatchOptions(), "node most (ReduceMax), which mixes rows"),
    ],
)
def test_the_node_that_prevents_it_is_named_and_nothing_is_left(tmp_path, make, options, words):
    make(tmp_path / "in.onnx")
    with pytest.raises(ModelError) as caught:
        rebatch(tmp_path / "in.onnx", tmp_path / "out.onnx", options)
    assert words in str(caught.value)
    assert str(tmp_path / "in.onnx") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_other_layouts_and_blue_first_are_put_right(tmp_path):
    gain = np.array([1, 2, 4], np.float32)  # of the graph's own channels: blue, green, red
    nodes = [helper.make_node("Mul", ["input", "gain"], ["output"])]
    source = save_model(tmp_path / "in.onnx", nodes, weights={"gain": gain}, shape=(1, "h", "w", 3))
    options = RebatchOptions(
        nhwc=True, bgr=True, facts={"value_range": (0.0, 255.0), "halo": 3, "tile": 128, "name": "gains"}
    )
    rebatch(source, tmp_path / "out.onnx", options)
    engine = OnnxEngine(tmp_path / "out.onnx", "cpu")
    assert engine.spec.value_range == (0.0, 255.0)
    assert (engine.spec.halo, engine.spec.tile, engine.spec.name, engine.spec.multiple) == (3, 128, "gains", 1)
    np.testing.assert_allclose(engine.run(picture()), picture() * gain[::-1, None, None])


def test_a_graph_inside_of_a_graph_sees_the_new_names(tmp_path):
    branches = [
        helper.make_graph([helper.make_node(op, ["input"], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])
        for op in ("Neg", "Abs")
    ]
    node = helper.make_node("If", ["yes"], ["output"], then_branch=branches[0], else_branch=branches[1])
    source = save_model(tmp_path / "in.onnx", [node], weights={"yes": np.array(True)}, shape=(1, 8, 8, 3))
    rebatch(source, tmp_path / "out.onnx", RebatchOptions(nhwc=True))
    assert np.array_equal(OnnxEngine(tmp_path / "out.onnx", "cpu").run(picture(2, 8, 8)), -picture(2, 8, 8))


def test_metadata_is_kept_and_the_proof_is_added(tmp_path):
    source = identity_model(
        tmp_path / "in.onnx", 2, shape=(1, 3, "h", "w"), metadata='{"name": "n", "halo": 5, "licence": "MIT"}'
    )
    report = rebatch(source, tmp_path / "out.onnx")
    entries = {entry.key: entry.value for entry in onnx.load(tmp_path / "out.onnx").metadata_props}
    data = json.loads(entries["sr_tile"])
    assert (data["name"], data["halo"], data["licence"], data["scale"]) == ("n", 5, "MIT", 2)
    assert data["rebatch"]["runs"] == report.runs
    assert len(report.runs) == 4  # batch 1 and 3 at two sizes
    assert report.worst == 0


def test_a_wrong_fact_is_found_out(tmp_path):
    source = identity_model(tmp_path / "in.onnx", 2, shape=(1, 3, "h", "w"))
    with pytest.raises(ModelError, match="came back as"):
        rebatch(source, tmp_path / "out.onnx", RebatchOptions(facts={"scale": 3, "multiple": 1}))
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_a_size_that_is_part_of_the_function_is_pointed_out(tmp_path):
    pool = helper.make_node("GlobalAveragePool", ["input"], ["mean"])
    source = save_model(
        tmp_path / "in.onnx", [pool, helper.make_node("Mul", ["input", "mean"], ["output"])], shape=(1, 3, 24, 32)
    )
    assert rebatch(source, tmp_path / "out.onnx", RebatchOptions(size="dynamic")).notes
    source = identity_model(tmp_path / "in.onnx", 2, shape=(1, 3, 24, 32))
    assert not rebatch(source, tmp_path / "out.onnx", RebatchOptions(size="dynamic"), overwrite=True).notes


def test_what_exists_is_left_alone_and_a_model_may_replace_itself(tmp_path):
    source = identity_model(tmp_path / "in.onnx", 2, shape=(1, 3, 24, 32))
    before = source.read_bytes()
    with pytest.raises(ModelError, match="--overwrite"):
        rebatch(source, source)
    assert source.read_bytes() == before
    rebatch(source, source, overwrite=True)
    assert OnnxEngine(source, "cpu").spec.fixed_batch is None
    with pytest.raises(ArgumentError, match="does not exist"):
        rebatch(source, tmp_path / "gone" / "out.onnx")


def test_a_model_of_two_inputs_is_refused(tmp_path):
    nodes = [helper.make_node("Add", ["input", "b"], ["output"])]
    save_model(tmp_path / "in.onnx", nodes, extra_inputs=("b",), dtype=TensorProto.FLOAT)
    with pytest.raises(ModelError, match="2 inputs"):
        rebatch(tmp_path / "in.onnx", tmp_path / "out.onnx")


def test_operators_of_which_onnx_knows_nothing_are_no_obstacle(tmp_path):
    save_model(tmp_path / "a.onnx", [helper.make_node("Gelu", ["input"], ["output"], domain="com.microsoft")])
    model = onnx.load(tmp_path / "a.onnx")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "a.onnx")
    rebatch(tmp_path / "a.onnx", tmp_path / "b.onnx", RebatchOptions(batch="dynamic"))
    picture = np.random.default_rng(0).random((3, 3, 9, 7), np.float32)
    single = OnnxEngine(tmp_path / "a.onnx", "cpu")
    expected = np.concatenate([single.run(picture[row : row + 1]) for row in range(3)])
    np.testing.assert_allclose(OnnxEngine(tmp_path / "b.onnx", "cpu").run(picture), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_a_graph_that_takes_any_are_said(tmp_path, channels):
    save_model(tmp_path / "a.onnx", [helper.make_node("Identity", ["input"], ["output"])], shape=("n", "c", "h", "w"))
    rebatch(tmp_path / "a.onnx", tmp_path / "b.onnx", RebatchOptions(facts={"channels": channels}))
    assert OnnxEngine(tmp_path / "b.onnx", "cpu").spec.channels == channels
    with pytest.raises(ArgumentError, match="--channels"):
        rebatch(tmp_path / "b.onnx", tmp_path / "c.onnx", RebatchOptions(facts={"channels": 4 - channels}))
