import json

import pytest
from PIL import Image
from support.toys import identity_model, noise_image


@pytest.fixture
def photos(tmp_path):
    identity_model(tmp_path / "model.onnx", 2)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noise_image(20, 30)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes(b"bad")
    return tmp_path


def test_a_job_is_begun_gone_on_with_and_shown(run, photos):
    command = ("enhance", "in", "out", "--model", "model.onnx", "--job", "job", "--report", "report.json")
    code, _, err = run(*command)
    assert code == 1
    assert "bad.png: not an image" in err
    first = {path.name: path.stat().st_mtime_ns for path in (photos / "out").iterdir()}
    assert run(*command)[0] == 1  # the failure is still one
    assert {path.name: path.stat().st_mtime_ns for path in (photos / "out").iterdir()} == first
    assert json.loads((photos / "report.json").read_text())["counts"] == {"done": 2, "failed": 1}
    code, out, _ = run("job", "status", "job", "--json")
    status = json.loads(out)
    assert code == 0
    assert (status["done"], status["total"], status["running"], status["runs"]) == (2, 3, False, 2)
    Image.fromarray(noise_image(20, 30)).save(photos / "in" / "bad.png")
    assert run(*command, "--retry-failed")[0] == 0
    assert "3 of 3 images" in run("job", "status", "job")[1]


def test_other_settings_are_refused_in_a_line_or_start_afresh(run, photos):
    command = ("enhance", "in", "out", "--model", "model.onnx", "--job", "job")
    run(*command)
    code, _, err = run(*command, "--tile-size", 16, "--overlap", 4, "--width", 40, "--tta")
    assert (code, err.count("\n")) == (1, 1)
    assert "tile was auto and is 16, overlap was auto and is 4" in err
    assert "--overwrite" in err
    code, _, err = run(*command, "--tile-size", 16, "--overlap", 4, "--overwrite")
    assert "starting afresh: tile was auto and is 16, overlap was auto and is 4" in err
    assert code == 1  # bad.png is bad still


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--retry-failed",), "goes with --job"),
        (("--actors", 2), "go with --engine ray"),
        (("--engine", "spark"), "is not one of 'local', 'ray'"),
        (("--engine", "ray", "--stats"), "go with --engine local"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, photos, options, words):
    code, _, err = run("enhance", "in", "out", "--model", "model.onnx", *options)
    assert code == 2
    assert words in err


def test_other_images_are_added_to_those_of_a_job(run, photos):
    for name in ("a.png", "b.png"):
        assert run("enhance", f"in/{name}", f"out/{name}", "--model", "model.onnx", "--job", "job")[0] == 0
    assert "done     2 of 2 images" in run("job", "status", "job")[1]


def test_a_folder_without_a_job_is_said_to_hold_none(run, photos):
    code, _, err = run("job", "status", "in")
    assert code == 1
    assert "holds no job" in err


def test_help_of_the_group(run):
    assert "status" in run("job", "--help")[1]
