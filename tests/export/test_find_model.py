"""A model in any form is one ONNX file, exported at most once."""

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


def test_a_damaged_checkpoint_leaves_nothing_in_the_cache(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"PK\x03\x04 not weights")
    for _ in range(2):
        with pytest.raises(ModelLoadError):
            find_model(path)


def test_names_are_those_of_the_zoo():
    assert find_model("photo-x2") == find_model() == zoo.find("photo-x2")
    assert find_model("x2") == find_model("clean-x2") == zoo.find("clean-x2")
