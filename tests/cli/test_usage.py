"""Wrong usage: said in a line, with exit code 2, before anything is done."""

import os
from typing import get_args, get_type_hints

import pytest
from support.image_files import save
from support.toys import noise_image

from sr_tile.cli.enhance_options import ComputeOptions, FileOptions
from sr_tile.cli.export_onnx import export_onnx
from sr_tile.cli.models import pull_model
from sr_tile.cli.options import ModelOptions
from sr_tile.cli.serve import LogOptions
from sr_tile.engines.precision import PRECISIONS
from sr_tile.export import precision
from sr_tile.export.architectures.network import Pooling
from sr_tile.images.edges import EdgesName
from sr_tile.images.formats import STRIPPED
from sr_tile.images.frames.film_writer import CODECS
from sr_tile.serving.http.request_log import LogFormat
from sr_tile.tiling.channels import Alpha


def test_two_files_that_would_become_one_are_refused(run, model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "x.png", noise_image(8, 8))
    code, _, err = run("enhance", "a/x.png", "b/x.png", "out", "--model", model)
    assert code == 2
    assert "would both become" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("enhance",), 2, "IN... [OUT]"),
        (("enhance", "in.png", "out.png", "--tile-size", "big"), 2, "neither a whole number from 1 up nor"),
        (("enhance", "in.png", "out.png", "--batch-size", "0"), 2, "'--batch-size': '0' is neither"),
        (("enhance", "in.png", "out.png", "--overlap", "512", "--tile-size", "256"), 2, "an overlap of at most"),
        (("enhance", "in.png", "out.png", "--device", "cuda"), 1, "device cuda"),
        (("enhance", "in.png", "out.png", "--device", "abacus"), 2, "choose one of"),
        (("enhance", "in.png", "out.png", "--mem-limit", "much"), 2, "2GiB"),
        (("enhance", "in.png", "out.png", "--parallel", "infer=2"), 2, "decode=N"),
        (("enhance", "in.png", "out.png", "--model", "unknown"), 2, "bundled models"),
        (("enhance", "gone.png", "out.png"), 1, "no such file"),
        (("enhance", "in.png", "out.xyz"), 2, "suffix"),
        (("enhance", "in.png", "nowhere/deep/out.png", "--scale", "17"), 2, "enlarge by 17: 16 is the most"),
        (("enhance", "in.png", "out.png", "--strip", "exif"), 2, "is not one of 'all', 'gps'"),
        (("enhance", "in.png", "out.png", "--scale", "0"), 2, "no size"),
        (("enhance", "in.png", "out.png", "--fit", "9", "--scale", "2"), 2, "--fit: '9' is not WIDTHxHEIGHT"),
        (("enhance", "in.png", "out.png", "--width", "9", "--scale", "2"), 2, "two sizes"),
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
            2,
            "--format foo: choose avif, dzi, gif, jpeg, png, tiff, webp",
        ),
        (("enhance", "in.png", "out.png", "--model", "in.png"), 1, "is no ONNX model, or a truncated one"),
        (("enhance", "in.png", "out.png", "--model", "empty"), 1, "is a folder; give the file of a model"),
        (("enhance", "in.png", "out.png", "--scale", "-1"), 2, "no size"),
        (("enhance", "in.png", "out.png", "--megapixels", "-1"), 2, "no size"),
        (("enhance", "", "o.png"), 2, "empty"),
        (("enhance", "in.png", "in.tif", "single.png"), 2, "need a folder"),
        (("enhance", "empty", "out1.png"), 2, "need a folder"),
        (("enhance", "s3://b/in.png", "out.png"), 2, "--engine ray"),
        (("enhance", "b" * 300, "out.png"), 1, "cannot be opened"),
        (("enhance", "in.png", "b" * 300 + ".png"), 1, "too long"),
        (("enhance", "in.png", "out.png", "--report", "empty"), 2, "is a folder"),
        (("enhance", "in.png", "out.png", "--report", "in.png"), 2, "is no report"),
        (("enhance", "in.png", "out.png", "--report", "in.png/"), 2, "is no report"),
        (("enhance", "in.png", "out.png", "--report", "r.json", "--stats", "r.json"), 2, "two names"),
        (("plan", "s3://b/in.png"), 2, "--engine ray"),
        (("plan", ""), 2, "empty"),
        (("fly",), 2, "No such command"),
        (("enhance", "-in.png", "out.png"), 2, "-in.png is taken for an option; for the file write ./-in.png"),
        (("enhance", "in.png", "-o", "-in.png", "-x"), 2, "for the file write ./-in.png"),
        (("enhance", "in.png", "out.png", "-in.jpg"), 2, "No such option"),
        (("enhance", "in.png", "out.png", "--tile-size"), 2, "see `sr-tile enhance --help`"),
        (("enhance", "in.png", "out.png", "--precision", "fp9"), 2, "'--precision': 'fp9' is not one of 'auto', "),
        (("job", "status"), 2, "see `sr-tile job status --help`"),
        (("enhance", "in.png", "out.png", "--model", ""), 2, "name is empty"),
        (("enhance", "in.png", "out.png", "--model", "denoise,"), 2, "name is empty"),
        (("enhance", "in.png", "out.png", "--pages", "2"), 1, "holds one page or frame; --pages 2 asks for more"),
        (("enhance", "in.png", "out.mp4"), 1, "no format for pictures has the suffix '.mp4'"),
        (("enhance", "in.png", "out.jpg", "--background", "whit"), 2, "error: background whit: give a name"),
        (("inspect", "denoise", "--device", "abacus"), 2, "choose one of"),
        (("rebatch", "in.png", "out.txt"), 2, "must end in .onnx"),
        (("export-onnx", "in.png", "out.txt"), 2, "must end in .onnx"),
    ],
)
def test_wrong_arguments_say_what_to_do(run, tmp_path, arguments, code, words):
    for name in ("in.png", "-in.png"):
        save(tmp_path / name, noise_image(20, 20))
    (tmp_path / "empty").mkdir()
    got, _, err = run(*arguments)
    *before, error = err.splitlines()
    assert (got, words in error) == (code, True), err
    assert error.startswith("sr-tile: error: ")
    assert not before or (code == 1 and "--model names another" in before[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-in.png", "empty", "in.png"]


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
    assert (code, words in err, len(err.splitlines())) == (2, True, 1), err
    code, _, err = run("plan", "in.png", *options)
    assert (code, words in err, len(err.splitlines())) == (2, True, 1), err
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
        assert code == 2
        assert "does not exist" in err
    os.mkfifo(tmp_path / "pipe")
    for file in ("/dev/null", "pipe"):
        code, _, err = run("enhance", "in.png", "out.png", "--model", model, "--report", file)
        assert (code, "is a device, pipe or socket" in err) == (2, True), err
    assert not (tmp_path / "out.png").exists()


def test_a_report_never_takes_the_place_of_a_result(run, model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(".")
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, noise_image(8, 8))
    for report in ("out/b.png", "link/out/b.png"):
        (tmp_path / "out").mkdir(exist_ok=True)
        code, _, err = run("enhance", "in", "out", "--model", model, "--device", "cpu", "--report", report)
        assert (code, "a result and a report" in err) == (2, True), err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "name", "known"),
    [
        (ComputeOptions, "alpha", get_args(Alpha)),
        (ComputeOptions, "edges", get_args(EdgesName)),
        (ModelOptions, "precision", PRECISIONS),
        (FileOptions, "strip", STRIPPED),
        (FileOptions, "codec", tuple(CODECS)),
        (LogOptions, "log", get_args(LogFormat)),
        (export_onnx, "pooling", get_args(Pooling)),
        (export_onnx, "precision", ("fp32", *precision.PRECISIONS)),
        (pull_model, "pooling", get_args(Pooling)),
    ],
)
def test_choices_are_those_that_the_library_knows(options, name, known):
    choices = get_args(get_type_hints(options)[name])
    choices = tuple(filter(None, (get_args(each) or (each,) for each in choices)))
    assert [each for group in choices for each in group if each is not type(None)] == list(known)
