import numpy as np
import pytest
from onnx import helper
from PIL import Image
from support.toys import identity_model, noise_image, save_model


def test_a_fixed_model_of_another_layout_just_works_afterwards(run, tmp_path):
    gain = np.array([0.5, 1, 1], np.float32)  # halves blue
    nodes = [helper.make_node("Mul", ["input", "gain"], ["output"])]
    save_model(tmp_path / "in.onnx", nodes, weights={"gain": gain}, shape=(1, 32, 32, 3))
    options = ("--layout", "nhwc", "--bgr", "--value-range", "0,255", "--size", "dynamic", "--name", "dim")
    code, out, _ = run("rebatch", "in.onnx", "out.onnx", *options)
    assert code == 0
    assert "batch 3, 32 x 32, against the original: 0.0e+00" in out
    assert out.splitlines()[-1].startswith("out.onnx: batch any, size any multiple of 1, scale 1")
    image = noise_image(70, 50) // 2 * 2
    Image.fromarray(image).save(tmp_path / "in.png")
    assert run("enhance", "in.png", "out.png", "--model", "out.onnx")[0] == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), image // np.array([1, 1, 2]))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--batch", "0"), 2, "neither `dynamic`, `keep`"),
        (("--size", "12"), 2, "HxW"),
        (("--size", "12x0"), 2, "HxW"),
        (("--layout", "chw"), 2, "is not one of 'nchw', 'nhwc'"),
        (("--value-range", "1,0"), 2, "LOW,HIGH"),
        (("--value-range", "white"), 2, "LOW,HIGH"),
        (("--scale", "3", "--multiple", "1"), 1, "came back as"),
        (("--layout", "nhwc"), 1, "in.onnx"),
    ],
)
def test_wrong_arguments_are_said_and_nothing_is_written(run, tmp_path, options, code, words):
    identity_model(tmp_path / "in.onnx", 2, shape=(1, 3, 24, 32))
    got, out, err = run("rebatch", "in.onnx", "out.onnx", *options)
    assert (got, out) == (code, "")
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_what_exists_needs_a_word(run, tmp_path):
    identity_model(tmp_path / "in.onnx", 2, shape=(1, 3, 24, 32))
    (tmp_path / "out.onnx").write_bytes(b"precious")
    code, _, err = run("rebatch", "in.onnx", "out.onnx")
    assert code == 1
    assert "--overwrite" in err
    assert (tmp_path / "out.onnx").read_bytes() == b"precious"
    assert run("rebatch", "in.onnx", "out.onnx", "--overwrite")[0] == 0
