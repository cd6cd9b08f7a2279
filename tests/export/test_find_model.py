"""A model in any form is one ONNX file, exported at most once."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import networks
from support.ncnn_networks import NcnnWriter
from support.toys import noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ModelLoadError
from sr_tile.export import checkpoint
from sr_tile.export.find_model import find_model
from sr_tile.models import zoo
from sr_tile.system.cache import recall


@pytest.fixture(scope="module")
def network():
    return networks.nafnet(**networks.SMALL_NAFNET)


@pytest.fixture(params=["pth", "safetensors", "param"])
def weights(request, network, tmp_path):
    path = tmp_path / f"net.{request.param}"
    if request.param == "param":
        writer = NcnnWriter()
        writer.conv("in", "out", 3, 3)
        return writer.save(path)
    state = network.state_dict()
    if request.param == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


def test_a_checkpoint_is_exported_once_and_then_taken_from_the_cache(weights, monkeypatch, caplog):
    found = find_model(weights)
    assert found.suffix == ".onnx"
    assert "exporting" in caplog.text
    monkeypatch.setattr(checkpoint, "export", lambda *_: pytest.fail("exported again"))
    assert find_model(str(weights)) == found
    with Enhancer(weights, device="cpu") as enhancer:
        assert enhancer.enhance(noise_image(40, 33)).shape == (40, 33, 3)


def test_other_weights_under_the_same_name_are_another_model(network, tmp_path):
    path = tmp_path / "net.pth"
    torch.save(network.state_dict(), path)
    first = find_model(path)
    torch.save({key: value * 0.5 for key, value in network.state_dict().items()}, path)
    second = find_model(path)
    assert first != second
    image = noise_image(32, 32, dtype=np.float32)
    with Enhancer(first, device="cpu") as one, Enhancer(second, device="cpu") as other:
        assert not np.array_equal(one.enhance(image), other.enhance(image))


@pytest.mark.parametrize("suffixes", [(".param", ".bin"), (".PARAM", ".bin"), (".param", ".BIN")])
def test_another_graph_beside_the_same_weights_is_another_model(tmp_path, suffixes):
    def write(slope):
        writer = NcnnWriter()
        writer.conv("in", "a", 3, 3)
        writer.layer("ReLU", "a", "b", f"0={slope}")
        writer.conv("b", "out", 3, 3)
        path = writer.save(tmp_path / "net.param")
        return [
            path.with_suffix(suffix).rename(path.with_suffix(new))
            for suffix, new in zip((".param", ".bin"), suffixes, strict=True)
        ]

    param, weights = write(0.5)
    first, image = find_model(param), noise_image(32, 32, dtype=np.float32)
    write(0.25)
    second = find_model(weights)
    assert first != second
    with Enhancer(first, device="cpu") as one, Enhancer(second, device="cpu") as other:
        assert not np.array_equal(one.enhance(image), other.enhance(image))
    param.write_text("nothing")
    with pytest.raises(ModelLoadError, match="no ncnn graph"):
        find_model(param)


@pytest.mark.parametrize("weights", ["param"], indirect=True)
@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_damaged_export_in_the_cache_is_made_again(weights, keep):
    found = find_model(weights)
    whole = found.read_bytes()
    found.write_bytes(whole[:keep])
    assert find_model(weights).read_bytes() == whole


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_cache_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert recall(tmp_path / "pipe", str) is None


@pytest.mark.parametrize("weights", ["param"], indirect=True)
def test_a_cache_that_cannot_be_written_holds_up_nothing(weights, monkeypatch, tmp_path, caplog):
    wall = tmp_path / "wall"
    wall.write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(wall / "x"))
    found = find_model(weights)
    assert "for this run only" in caplog.text
    caplog.clear()
    assert find_model(weights) == found
    assert not caplog.text
    with Enhancer(found, device="cpu") as enhancer:
        assert enhancer.enhance(noise_image(40, 33)).shape == (40, 33, 3)


def test_a_damaged_checkpoint_leaves_nothing_in_the_cache(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"PK\x03\x04 not weights")
    for _ in range(2):
        with pytest.raises(ModelLoadError):
            find_model(path)


def test_names_are_those_of_the_zoo():
    assert find_model("photo-x2") == find_model() == zoo.find("photo-x2")
    assert find_model("x2") == find_model("clean-x2") == zoo.find("clean-x2")
