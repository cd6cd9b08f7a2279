"""Pictures and models that are damaged, or none."""

import os
import struct
import zlib

import numpy as np
import pytest
from onnx import helper
from PIL import Image
from skimage import data
from support.image_files import save
from support.toys import identity_model, noise_image, repeat, save_model


def huge_png():
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def truncated(tmp_path, suffix):
    path = save(tmp_path / f"whole{suffix}", data.chelsea())
    return path.read_bytes()[: path.stat().st_size // 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: b"",
        lambda p: b"just text",
        lambda p: huge_png(),
        lambda p: truncated(p, ".png"),
        lambda p: truncated(p, ".jpg"),
        lambda p: truncated(p, ".tif"),
        lambda p: truncated(p, ".webp"),
        lambda p: os.urandom(5000),
        lambda p: b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
)
def test_damaged_files_are_one_clear_line_and_nothing_is_written(run, model, tmp_path, make):
    (tmp_path / "bad.png").write_bytes(make(tmp_path))
    before = {path.name for path in tmp_path.iterdir()}
    code, out, err = run("enhance", "bad.png", "out.png", "--model", model)
    assert code == 1
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("sr-tile: error: bad.png")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_wrong_suffix_is_read_by_content(run, model, tmp_path):
    image = noise_image(8, 8)
    save(tmp_path / "in.png", image).rename(tmp_path / "in.jpg")
    assert run("enhance", "in.jpg", "out.png", "--model", model)[0] == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), repeat(image, 2))


def nan_model(path):
    return save_model(
        path, [helper.make_node("Log", ["input"], ["log"]), helper.make_node("Sqrt", ["log"], ["output"])]
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_text("no model"), "no ONNX model"),
        (
            lambda p: save_model(p, [helper.make_node("Add", ["input", "b"], ["output"])], extra_inputs=("b",)),
            "2 inputs",
        ),
        (
            lambda p: save_model(p, [helper.make_node("Relu", ["input"], ["output"])], shape=(1, 8, 8, 3)),
            "(N, H, W, C)",
        ),
        (
            lambda p: save_model(p, [helper.make_node("Relu", ["input"], ["output"])], shape=("n", 4, "h", "w")),
            "4 channels",
        ),
        (lambda p: identity_model(p, 2, metadata='{"scale": 3, "multiple": 1}'), "came back as"),
        (lambda p: nan_model(p), "no numbers"),
    ],
)
def test_unusable_models_are_one_clear_line_and_nothing_is_written(run, tmp_path, make, words):
    save(tmp_path / "in.png", noise_image(20, 20))
    make(tmp_path / "bad.onnx")
    before = {path.name for path in tmp_path.iterdir()}
    code, _, err = run("enhance", "in.png", "out.png", "--model", "bad.onnx", "--batch-size", 1)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before
