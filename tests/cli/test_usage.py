"""Wrong usage: said in a line, with exit code 2, before anything is done."""

import os

import pytest
from support.image_files import save
from support.toys import noise_image


def test_two_files_that_would_become_one_are_refused(run, model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "x.png", noise_image(8, 8))
    code, _, err = run("enhance", "a/x.png", "b/x.png", "out", "--model", model)
    assert code == 1
    assert "would both become" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("enhance",), 2, "IN... [OUT]"),
        (("enhance", "in.png", "out.png", "--tile-size", "big"), 2, "neither a whole number nor"),
        (("enhance", "in.png", "out.png", "--batch-size", "0"), 1, "batch"),
        (("enhance", "in.png", "out.png", "--overlap", "512", "--tile-size", "256"), 1, "an overlap of at most"),
        (("enhance", "in.png", "out.png", "--device", "cuda"), 1, "device cuda"),
        (("enhance", "in.png", "out.png", "--device", "abacus"), 1, "choose one of"),
        (("enhance", "in.png", "out.png", "--mem-limit", "much"), 1, "2GiB"),
        (("enhance", "in.png", "out.png", "--parallel", "infer=2"), 2, "decode=N"),
        (("enhance", "in.png", "out.png", "--model", "unknown"), 1, "bundled models"),
        (("enhance", "gone.png", "out.png"), 1, "no such file"),
        (("enhance", "in.png", "out.xyz"), 1, "suffix"),
        (("enhance", "in.png", "nowhere/deep/out.png", "--scale", "17"), 1, "enlarge by 17: 16 is the most"),
        (("enhance", "in.png", "out.png", "--strip", "exif"), 1, "strip 'exif' is not known; choose all or gps"),
        (("enhance", "in.png", "out.png", "--scale", "0"), 1, "no size"),
        (("enhance", "in.png", "out.png", "--fit", "9", "--scale", "2"), 1, "is not WIDTHxHEIGHT"),
        (("enhance", "in.png", "out.png", "--width", "9", "--scale", "2"), 1, "two sizes"),
        (
            ("enhance", "in.png", "out.png", "--width", "321"),
            1,
            "321 x 321 pixels are wanted, and the network reaches 320 x 320 at most",
        ),
        (("enhance", "empty", "out"), 1, "holds no image"),
        (("enhance", "*.jpg", "out"), 1, "*.jpg: no file has such a name"),
        (("enhance", "in.png", "--suffix", "/a"), 2, "holds a /"),
        (
            ("enhance", "in.png", "out/", "--format", "foo"),
            1,
            "--format foo: choose avif, dzi, gif, jpeg, png, tiff, webp",
        ),
        (("enhance", "in.png", "out.png", "--model", "in.png"), 1, "is no ONNX model, or a truncated one"),
        (("enhance", "in.png", "out.png", "--model", "empty"), 1, "is a folder; give the file of a model"),
        (("enhance", "in.png", "out.png", "--scale", "-1"), 1, "no size"),
        (("enhance", "in.png", "out.png", "--megapixels", "-1"), 1, "no size"),
        (("enhance", "", "o.png"), 1, "empty"),
        (("enhance", "in.png", "in.tif", "single.png"), 1, "need a folder"),
        (("enhance", "empty", "out1.png"), 1, "need a folder"),
        (("enhance", "s3://b/in.png", "out.png"), 1, "--engine ray"),
        (("enhance", "b" * 300, "out.png"), 1, "cannot be opened"),
        (("enhance", "in.png", "b" * 300 + ".png"), 1, "too long"),
        (("enhance", "in.png", "out.png", "--report", "empty"), 1, "is a folder"),
        (("enhance", "in.png", "out.png", "--report", "in.png"), 1, "is no report"),
        (("enhance", "in.png", "out.png", "--report", "in.png/"), 1, "is no report"),
        (("enhance", "in.png", "out.png", "--report", "r.json", "--stats", "r.json"), 1, "two names"),
        (("plan", "s3://b/in.png"), 1, "--engine ray"),
        (("plan", ""), 1, "empty"),
        (("fly",), 2, "No such command"),
    ],
)
def test_wrong_arguments_say_what_to_do(run, tmp_path, arguments, code, words):
    save(tmp_path / "in.png", noise_image(20, 20))
    (tmp_path / "empty").mkdir()
    got, _, err = run(*arguments)
    assert (got, words in err) == (code, True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "in.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "denoise", "--scale", 2), "denoise enlarges by 1, not by 2"),
        (("--model", "x2", "--scale", 5), "x2 enlarges by 2, and by 4 where x2 runs twice, not by 5"),
        (("--model", "model.onnx", "--scale", 4.5), "by 2, and by 4 where model runs twice, not by 4.5"),
    ],
)
def test_a_scale_beyond_the_models_is_refused(run, model, tmp_path, options, words):
    save(tmp_path / "in.png", noise_image(8, 8))
    code, _, err = run("enhance", "in.png", "out.png", *options)
    assert (code, words in err, len(err.splitlines())) == (1, True, 1), err
    code, _, err = run("plan", "in.png", *options)
    assert (code, words in err, len(err.splitlines())) == (1, True, 1), err
    assert run("enhance", "in.png", "out.png", "--model", "x2", "--scale", 2)[0] == 0


def test_two_models_are_refused(run, model, tmp_path):
    save(tmp_path / "in.png", noise_image(8, 8))
    code, _, err = run("enhance", "in.png", "out.png", "--model", "denoise", "--model", "x2")
    assert code == 2
    assert "--model" in err
    assert "more than once" in err
    assert not (tmp_path / "out.png").exists()


def test_a_report_that_cannot_be_written_is_refused_before_the_work(run, model, tmp_path):
    save(tmp_path / "in.png", noise_image(8, 8))
    for option in ("--report", "--stats"):
        code, _, err = run("enhance", "in.png", "out.png", "--model", model, option, "none/r.json")
        assert code == 1
        assert "does not exist" in err
    os.mkfifo(tmp_path / "pipe")
    for file in ("/dev/null", "pipe"):
        code, _, err = run("enhance", "in.png", "out.png", "--model", model, "--report", file)
        assert (code, "is a device, pipe or socket" in err) == (1, True), err
    assert not (tmp_path / "out.png").exists()


def test_a_report_never_takes_the_place_of_a_result(run, model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(".")
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, noise_image(8, 8))
    for report in ("out/b.png", "link/out/b.png"):
        (tmp_path / "out").mkdir(exist_ok=True)
        code, _, err = run("enhance", "in", "out", "--model", model, "--device", "cpu", "--report", report)
        assert (code, "a result and a report" in err) == (1, True), err
    assert not list((tmp_path / "out").iterdir())
