"""Names of results that nobody gave, pipes, and the line at the end."""

import io
import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from skimage import data
from support.toys import conv_model

from sr_tile.cli.figures import summary


@pytest.fixture
def here(tmp_path):
    conv_model(tmp_path / "net.onnx", 2)
    (tmp_path / "photos").mkdir()
    for name in ("in.jpg", "in.bmp", "photos/a.png", "photos/b.jpg"):
        Image.fromarray(data.astronaut()[:20, :30]).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "results"),
    [
        (("in.jpg",), ["in-x2.jpg"]),
        (("in.bmp",), ["in-x2.png"]),
        (("in.jpg", "--scale", 1.5), ["in-x1.5.jpg"]),
        (("in.jpg", "--width", 40), ["in-resized.jpg"]),
        (("in.jpg", "--model", "net.onnx"), ["in-net.jpg"]),
        (("in.jpg", "--suffix", "_large"), ["in_large.jpg"]),
        (("in.jpg", "--format", "tiff"), ["in-x2.tif"]),
        (("in.bmp", "--format", "jpeg"), ["in-x2.jpg"]),
        (("in.bmp", "--format", ".PNG"), ["in-x2.png"]),
        (("in.jpg", "-o", "a.jpeg", "--format", "jpg"), ["a.jpeg"]),
        (("photos", "out", "--format", "jpeg"), ["out/a.jpg", "out/b.jpg"]),
        (("in.jpg", "--model", "net.onnx,net.onnx"), ["in-net-net.jpg"]),
        (("photos",), ["photos-x2/a.png", "photos-x2/b.jpg"]),
        (("in.jpg", "-o", "other.png"), ["other.png"]),
        (("in.jpg", "in.bmp", "-o", "out"), ["out/in.jpg", "out/in.png"]),
    ],
)
def test_where_results_go(run, here, arguments, results):
    before = {path for path in here.rglob("*") if path.is_file()}
    code, _, err = run("enhance", *arguments, "--device", "cpu", "-q")
    assert (code, err) == (0, "")
    assert (
        sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file() and path not in before)
        == results
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("in.bmp", "o.png", "--quality", 80), "--quality does nothing in .png"),
        (("in.bmp", "in.jpg", "out", "--quality", 95), "--quality does nothing in .png"),
        (("in.bmp", "o.jpg", "--quality", 80), None),
        (("in.bmp", "o.jpg", "--lossless"), "--lossless does nothing in .jpg: it is for WEBP, AVIF"),
        (("in.bmp", "o.webp", "--lossless"), None),
        (("in.bmp", "o.png", "--pyramid"), "--pyramid does nothing in .png: it is for TIFF"),
        (("in.bmp", "o.tif", "--pyramid"), None),
        (("in.bmp", "o.png", "--background", "white"), "--background does nothing in .png: it is for JPEG"),
        (("in.bmp", "o.jpg", "--background", "white"), None),
        (("in.bmp", "o.png", "--codec", "h264"), "--codec does nothing in .png: it is for films"),
        (("in.bmp", "o.png"), None),
        (("in.bmp", "o.png", "--linear"), "--linear does nothing where nothing is reduced"),
        (("in.bmp", "o.png", "--linear", "--width", 40), None),
        (("in.bmp", "o.png", "--linear", "--scale", 1.5), None),
        (
            ("in.bmp", "o.png", "--precision", "fp32", "--agreement", 60),
            "--agreement does nothing with --precision fp32",
        ),
    ],
)
def test_an_option_that_does_nothing_is_said_to(run, here, arguments, words):
    code, _, err = run("enhance", *arguments, "--model", "net.onnx", "--device", "cpu", "-q")
    assert (code, len(err.splitlines())) == (0, 1 if words else 0), err
    assert (words or "") in err
    if words and words.startswith(("--linear", "--agreement")):
        code, _, err = run("plan", "in.bmp", *arguments[2:], "--model", "net.onnx", "--device", "cpu")
        assert (code, len(err.splitlines()), words in err) == (0, 1, True), err


def test_a_suffix_beside_a_name_is_refused(run, here):
    code, _, err = run("enhance", "in.jpg", "out.jpg", "--suffix", "-a")
    assert (code, "one input alone" in err) == (2, True)


def test_a_picture_through_pipes(run, here, monkeypatch):
    stdin, stdout = io.BytesIO((here / "in.jpg").read_bytes()), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
    with monkeypatch.context() as patch:
        patch.setattr(
            sys, "stdout", SimpleNamespace(buffer=stdout, isatty=lambda: False, flush=lambda: None, write=len)
        )
        code, _, err = run("enhance", "-", "-", "--model", "net.onnx", "--device", "cpu", "--format", "png")
    assert (code, err) == (0, "")
    image = Image.open(io.BytesIO(stdout.getvalue()))
    assert (image.format, image.size) == ("PNG", (60, 40))
    assert not list(here.glob("std*"))


def test_messages_call_pipes_by_their_name(run, here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no picture")))
    code, _, err = run("enhance", "-", "o.png", "--model", "net.onnx", "--device", "cpu")
    assert (code, "error: -: " in err, "stdin" in err) == (1, True, False), err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((here / "in.jpg").read_bytes())))
    code, out, _ = run("enhance", "-", "-", "--dry-run")
    assert (code, out) == (0, "- -> -\n")


def test_what_comes_in_and_cannot_be_kept_is_said_to(run, here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(100))))
    monkeypatch.setattr("shutil.disk_usage", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    code, _, err = run("enhance", "-", "o.png", "--model", "net.onnx", "--device", "cpu")
    assert (code, "-: what comes in cannot be kept in " in err, "TMPDIR" in err) == (1, True, True), err


def test_pipes_that_cannot_be(run, here):
    code, _, err = run("enhance", "-", "in.jpg", "out")
    assert (code, "one picture" in err) == (2, True)


def test_all_in_one_line():
    figures = SimpleNamespace(images=12, megapixels=144.04, seconds=31.2, precision="bf16")
    assert summary(figures, 2) == "12 pictures, 144.0 megapixels, 31 s, bf16, 2 left out"
    figures.images = 1
    assert summary(figures, 0) == "1 picture, 144.0 megapixels, 31 s, bf16"
