import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image
from support.toys import conv_model, noise_image

COMMANDS = [
    ("enhance", "in.png", "out.png", "--model", "model/bad.onnx"),
    ("inspect", "model/bad.onnx"),
    ("rebatch", "model/bad.onnx", "out.onnx"),
]


def outside(model, first):
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    first.external_data.add(key="location", value="../secret.bin")
    return model.SerializeToString()


def huge(model, first):
    del first.dims[:]
    first.dims.extend((10, 2**28))
    return model.SerializeToString()


def truncated(model, first):
    return model.SerializeToString()[:-100]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("forge", [outside, huge, truncated])
def test_every_command_refuses_it_in_one_line_and_writes_nothing(run, tmp_path, command, forge):
    (tmp_path / "model").mkdir()
    path = conv_model(tmp_path / "model" / "bad.onnx")
    model = onnx.load(path)
    (tmp_path / "secret.bin").write_bytes(model.graph.initializer[0].raw_data)
    path.write_bytes(forge(model, model.graph.initializer[0]))
    Image.fromarray(noise_image(20, 20)).save(tmp_path / "in.png")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err.startswith("sr-tile: error: model model/bad.onnx")
    assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_same_model_unforged_is_taken(run, tmp_path):
    (tmp_path / "model").mkdir()
    conv_model(tmp_path / "model" / "bad.onnx")
    Image.fromarray(noise_image(20, 20)).save(tmp_path / "in.png")
    assert [run(*command)[0] for command in COMMANDS] == [0, 0, 0]
    assert np.asarray(Image.open(tmp_path / "out.png")).shape == (40, 40, 3)
