import json

import pytest
from support.toys import identity_model


def test_a_file_is_described_for_people_and_for_programs(run, tmp_path):
    metadata = '{"name": "twice", "scale": 2, "multiple": 1, "halo": 4, "licence": "MIT", "verification": {"worst": 0}}'
    identity_model(tmp_path / "m.onnx", 2, shape=(None, 3, "h", "w"), metadata=metadata)
    code, out, err = run("inspect", "m.onnx", "--device", "cpu")
    assert (code, err) == (0, "")
    for words in (
        "input: float32 (dynamic, 3 fixed, h symbolic, w symbolic)",
        "twice: scale 2, channels 3, multiple 1, halo 4, tile not said, values 0 to 1",
        "licence: MIT",
        'verification: {"worst": 0}',
        "enhance  on cpu: tiles of 256 x 256 or less, overlap 8, halo 4, batch ",
    ):
        assert words in out
    assert json.loads(run("inspect", "m.onnx", "--json")[1])["enhance"]["overlap"] == 8


def test_a_bundled_model_is_described_by_its_name(run):
    code, out, _ = run("inspect", "x2")
    assert code == 0
    assert "scale 2" in out


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_what_is_no_model_is_one_line(run, tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    code, out, err = run("inspect", "m.onnx")
    assert (code, out) == (1, "")
    assert err.startswith("sr-tile: error: model m.onnx: is no ONNX model")
    assert len(err.strip().splitlines()) == 1
