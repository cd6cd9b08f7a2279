"""The graphs equal the independent reference: same function, whatever the size and batch."""

import numpy as np
import onnx
import pytest
from support.networks import SMALL_NAFNET, SMALL_SCUNET, error, nafnet, runner, scunet, state_of

from sr_tile.engines import openvino, openvino_runtime
from sr_tile.export.architectures import detect

SIZES = [(1, 64, 64), (3, 64, 64), (1, 100, 130), (3, 65, 64), (1, 1, 1), (1, 3, 70), (1, 256, 256)]
OPERATORS_NEVER_WRITTEN = {"ScatterND", "ScatterElements", "Einsum", "Where", "If", "Loop", "NonZero"}


def without_biases(network):
    for name, parameter in network.named_parameters():
        if name.endswith(".bias"):
            parameter.data.zero_()
    return network


@pytest.fixture(
    scope="module",
    params=["scunet", "scunet-gray", "scunet-small", "scunet-no-bias", "nafnet", "nafnet-wide", "nafnet-local"],
)
def pair(request):
    network, pooling = {
        "scunet": lambda: (scunet(**SMALL_SCUNET), "global"),
        "scunet-gray": lambda: (scunet(channels=1, config=(1, 1, 0, 2, 1, 0, 1)), "global"),
        "scunet-small": lambda: (scunet(config=(0, 2, 1, 0, 1, 1, 0), dim=32), "global"),
        "scunet-no-bias": lambda: (without_biases(scunet(config=(1, 0, 0, 2, 0, 0, 0))), "global"),
        "nafnet": lambda: (nafnet(**SMALL_NAFNET), "global"),
        "nafnet-wide": lambda: (nafnet(1, 72, (1,), 1, (1,)), "global"),
        "nafnet-local": lambda: (nafnet(**SMALL_NAFNET, local_side=384), "local"),
    }[request.param]()
    found = detect(state_of(network), pooling)
    return network, found, runner(found.graph(18))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_graph_equals_reference(pair, size):
    network, found, run = pair
    batch, height, width = size
    assert error(run, network, batch, found.channels, height, width) < 1e-5


def test_rows_of_a_batch_do_not_mix(pair):
    _, found, run = pair
    batch = np.random.default_rng(0).random((3, found.channels, 65, 70), dtype=np.float32)
    together = run(batch)
    for row, result in zip(batch, together, strict=True):
        np.testing.assert_allclose(run(row[None])[0], result, atol=2e-6 * np.abs(result).max())


def test_without_biases_black_stays_black_to_the_last_bit():
    found = detect(state_of(without_biases(scunet(config=(0, 2, 0, 1, 0, 0, 0)))))
    assert not runner(found.graph(18))(np.zeros((1, 3, 64, 64), np.float32)).any()


@pytest.mark.parametrize("opset", [18, 19, 20])
def test_standard_operators_only(pair, opset):
    model = pair[1].graph(opset)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & OPERATORS_NEVER_WRITTEN
    assert model.opset_import[0].version == opset


def test_local_pooling_equals_global_up_to_384():
    network = nafnet(**SMALL_NAFNET)
    local, whole = (runner(detect(state_of(network), pooling).graph(18)) for pooling in ("local", "global"))
    for height, width in ((384, 384), (100, 384), (16, 16)):
        picture = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
        wanted = whole(picture)
        assert np.abs(local(picture) - wanted).max() / np.abs(wanted).max() < 1e-5
    picture = np.random.default_rng(0).random((1, 3, 384, 480), dtype=np.float32)
    assert np.abs(local(picture) - whole(picture)).max() > 1e-4


@pytest.mark.parametrize(
    ("height", "width"),
    [(385, 64), pytest.param(500, 401, marks=pytest.mark.slow)],
)
def test_local_pooling_beyond_384(height, width):
    network = nafnet(**SMALL_NAFNET, local_side=384)
    run = runner(detect(state_of(network), "local").graph(18))
    assert error(run, network, 1, 3, height, width) < 1e-5


@pytest.mark.skipif(not openvino_runtime.supports("bf16"), reason="no bf16 here")
@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 900)])
def test_local_pooling_bears_few_bits(tmp_path, height, width):
    """Running sums over the whole length were 3 to 24 % off: they grow, and bfloat16 keeps 8 bits of them."""
    network = nafnet(**SMALL_NAFNET, local_side=384)
    onnx.save(detect(state_of(network), "local").graph(18), tmp_path / "m.onnx")
    run = openvino.OpenVinoEngine(tmp_path / "m.onnx", precision="bf16").run
    assert error(run, network, 1, 3, height, width) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("build", [scunet, nafnet])
def test_full_size_networks(build):
    network = build()
    assert error(runner(detect(state_of(network)).graph(18)), network, 2, 3, 65, 64) < 1e-5
