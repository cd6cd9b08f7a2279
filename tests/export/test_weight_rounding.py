"""Rounded weights give the sums of the exact ones more nearly than weights that are each rounded by themselves."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import helper, numpy_helper
from support.toys import conv_model, save_model

from sr_tile.export.precision import compare
from sr_tile.export.precision.compare import Runner, values_inside
from sr_tile.export.precision.equalise import equalise
from sr_tile.export.precision.onnx_passes import load_float
from sr_tile.export.precision.weight_rounding import WeightRounding, products_of_inputs, round_weights
from sr_tile.models.synthetic_images import scenes


def pictures(count=4, seed=5):
    return [picture.transpose(2, 0, 1)[None] for picture in scenes(count, 48, seed)]


def error(weights, rounded, picture):
    return float(np.mean((F.conv2d(torch.from_numpy(picture), torch.from_numpy(weights - rounded))).numpy() ** 2))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_results_of_a_layer_change_less_than_by_nearest_rounding(kernel):
    weights = np.random.default_rng(0).standard_normal((8, 3, kernel, kernel)).astype(np.float32)
    steps = np.abs(weights).max(axis=(1, 2, 3)) / 127
    products = sum(products_of_inputs(picture, (kernel, kernel), 1000) for picture in pictures())
    found = round_weights(weights.reshape(8, -1), steps, products)
    assert found.dtype == np.int8
    assert np.abs(found.astype(int)).max() <= 127
    by = [
        (integers * steps[:, None]).reshape(weights.shape).astype(np.float32)
        for integers in (found, np.rint(weights.reshape(8, -1) / steps[:, None]))
    ]
    ours, nearest = (sum(error(weights, each, picture) for picture in pictures(seed=6)) for each in by)
    assert ours < 0.7 * nearest


def test_of_few_weights_it_is_near_the_best_of_all_ways():
    """Each of four weights up or down, over thirty layers."""
    rng, costs = np.random.default_rng(1), np.zeros(3)
    for _ in range(30):
        rows = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 4)) + 0.2 * rng.standard_normal((200, 4))
        products, weights = rows.T @ rows, rng.uniform(-3, 3, (1, 4))
        ways = [np.floor(weights) + np.array([up]) for up in itertools.product((0, 1), repeat=4)]
        tried = [*ways, round_weights(weights, np.ones(1), products), np.rint(weights)]
        found = [((weights - integers) @ products @ (weights - integers).T).item() for integers in tried]
        costs += [min(found[:-2]), *found[-2:]]
    best, ours, nearest = costs
    assert ours < 1.5 * best < nearest


def test_inputs_that_say_nothing_are_rounded_to_the_nearest():
    weights = np.random.default_rng(2).uniform(-1, 1, (3, 6))
    steps = np.abs(weights).max(axis=1) / 127
    for products in (np.eye(6), np.zeros((6, 6))):
        assert np.array_equal(round_weights(weights, steps, products), np.rint(weights / steps[:, None]))


def test_windows_are_those_of_a_convolution():
    picture = pictures(1)[0]
    columns = F.unfold(torch.from_numpy(picture).double(), 3, padding=1)[0].numpy()
    np.testing.assert_allclose(products_of_inputs(picture, (3, 3), 10**9), columns @ columns.T, rtol=1e-9)


def test_equalised_channels_are_nearer_and_the_results_the_same(tmp_path):
    rng = np.random.default_rng(3)
    uneven = np.geomspace(0.01, 1, 8, dtype=np.float32)[:, None, None, None]
    weights = {
        "first": rng.standard_normal((8, 3, 3, 3)).astype(np.float32) * uneven,
        "bias": rng.standard_normal(8).astype(np.float32) * uneven.ravel(),
        "second": rng.standard_normal((3, 8, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "first", "bias"], ["a"], "one", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "second"], ["output"], "two", pads=[1] * 4),
    ]
    model = load_float(save_model(tmp_path / "m.onnx", nodes, weights=weights))
    before = [Runner(model)(picture) for picture in pictures()]

    def spread():
        peaks = np.max([values_inside(model, ["b"])(p)["b"].max(axis=(0, 2, 3)) for p in pictures()], axis=0)
        return peaks.max() / peaks.min()

    uneven_spread = spread()
    equalise(model, pictures())
    for picture, wanted in zip(pictures(), before, strict=True):
        np.testing.assert_allclose(Runner(model)(picture), wanted, atol=2e-5)
    assert spread() < 1.5 * np.sqrt(uneven_spread)


def test_what_others_read_is_left_alone(tmp_path):
    """A sum that reads the channels too, and weights that serve two layers."""
    eye = np.random.default_rng(4).standard_normal((3, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], "one", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w"], ["c"], "two", pads=[1] * 4),
        helper.make_node("Add", ["c", "b"], ["output"], "sum"),
    ]
    model = load_float(save_model(tmp_path / "m.onnx", nodes, weights={"w": eye}))
    equalise(model, pictures())
    (found,) = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    assert np.array_equal(found, eye)
    equalise(load_float(conv_model(tmp_path / "deep.onnx", depth=3)), [np.zeros((1, 3, 8, 8), np.float32)])


def test_where_nothing_is_equalised_or_rounded_no_session_is_opened(tmp_path, monkeypatch):
    model = load_float(save_model(tmp_path / "m.onnx", [helper.make_node("Relu", ["input"], ["output"], "relu")]))
    monkeypatch.setattr(compare, "open_session", lambda *_, **__: pytest.fail("a session was opened"))
    equalise(model, pictures())
    WeightRounding(model, ["relu"], {}, pictures())
