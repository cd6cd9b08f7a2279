import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image
from skimage import data
from support.toys import identity_model, noise_image, repeat, save_model

COMMANDS = ("bench", "enhance", "export-onnx", "inspect", "job", "models", "plan", "rebatch", "serve")


@pytest.fixture
def model(tmp_path):
    return identity_model(tmp_path / "model.onnx", 2)


def save(path, image):
    Image.fromarray(image).save(path)
    return path


def test_the_names_of_the_main_options(run, model, tmp_path):
    image = noise_image(300, 270)
    save(tmp_path / "in.png", image)
    code, _, _ = run(
        "enhance", "in.png", "out.png", "--model", model, "--tile-size", 256, "--overlap", 64, "--batch-size", 8
    )
    assert code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), repeat(image, 2))


def test_auto_for_each_and_stats_in_both_forms(run, model, tmp_path):
    save(tmp_path / "in.png", noise_image(40, 50))
    common = ("enhance", "in.png", "out.png", "--model", model, "--overwrite", "--tile-size", "auto", "--halo", "auto")
    code, _, err = run(*common, "--overlap", "auto", "--batch-size", "auto", "--stats")
    assert code == 0
    for word in ("decode", "tile", "infer", "blend", "encode", "bottleneck", "idle", "redundancy", "peak memory"):
        assert word in err
    assert run(*common, "--stats", "stats.json")[0] == 0
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert [stage["name"] for stage in stats["stages"]] == ["decode", "tile", "infer", "blend", "encode"]
    assert stats["images"] == 1


def test_folders_globs_and_places_below(run, model, tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    save(tmp_path / "photos" / "a.png", noise_image(8, 9))
    save(tmp_path / "photos" / "deep" / "b.png", noise_image(8, 9))
    save(tmp_path / "c.tif", noise_image(8, 9))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    assert run("enhance", "photos", "*.tif", "out", "--model", model)[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == ["a.png", "c.tif"]
    assert run("enhance", "photos", "deep", "--recursive", "--model", model, "--format", "webp")[0] == 0
    found = {str(p.relative_to(tmp_path / "deep")) for p in (tmp_path / "deep").rglob("*.*")}
    assert found == {"a.webp", str(Path("deep", "b.webp"))}


def test_one_bad_file_never_stops_the_rest(run, model, tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(4):
        save(tmp_path / "in" / f"{index}.png", noise_image(20, 20, seed=index))
    (tmp_path / "in" / "2.png").write_bytes(b"garbage")
    code, _, err = run("enhance", "in", "out", "--model", model, "--report", "report.json")
    assert code == 1
    assert "2.png" in err
    assert "1 of 4 images failed" in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "3.png"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"done": 3, "failed": 1}
    (failed,) = (file for file in report["files"] if file["status"] == "failed")
    assert failed["source"].endswith("2.png")
    assert failed["error"]
    assert report["command"] == ["enhance", "in", "out", "--model", str(model), "--report", "report.json"]
    assert report["model"] == "model"
    for file in (file for file in report["files"] if file["status"] == "done"):
        assert (file["source_size"], file["target_size"]) == ([20, 20], [40, 40])
        assert 0 < file["seconds"] < report["stats"]["seconds"] + 1


def test_what_is_left_out_is_said_counted_and_named_on_request(run, model, tmp_path):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.png", noise_image(8, 8))
    for name in ("1.txt", "2.txt", "3.txt", "4.txt"):
        (tmp_path / "in" / name).write_text("no image")
    code, _, err = run("enhance", "in", "out", "--model", model, "--report", "report.json")
    assert (code, len(err.splitlines()), "4 files" in err, "4.txt" in err) == (0, 1, True, False), err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"done": 1, "left_out": 4}
    assert sorted(name for names in report["left_out"].values() for name in names) == [
        f"in/{index}.txt" for index in range(1, 5)
    ]
    _, _, err = run("enhance", "in", "out", "--model", model, "--overwrite", "-v")
    assert all(f"{index}.txt" in err for index in range(1, 5))


def test_a_named_file_in_the_output_folder_is_done(run, model, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for name in ("b.png", "here/a.png"):
        save(tmp_path / name, noise_image(8, 8))
    monkeypatch.chdir(tmp_path / "here")
    code, _, err = run("enhance", "a.png", "../b.png", ".", "--model", model, "--overwrite", "--report", "r.json")
    assert (code, err) == (0, "")
    assert {Image.open(tmp_path / "here" / name).size for name in ("a.png", "b.png")} == {(16, 16)}
    code, _, err = run("enhance", "a.png", "../b.png", ".", "--model", model)
    assert (code, "2 of 2 images failed" in err) == (1, True)


def test_existing_results_need_a_word(run, model, tmp_path):
    save(tmp_path / "in.png", noise_image(8, 8))
    (tmp_path / "out.png").write_bytes(b"precious")
    code, _, err = run("enhance", "in.png", "out.png", "--model", model)
    assert code == 1
    assert "--overwrite" in err
    assert run("enhance", "in.png", "out.png", "--model", model, "--skip-existing")[0] == 0
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert run("enhance", "in.png", "out.png", "--model", model, "--overwrite")[0] == 0
    assert Image.open(tmp_path / "out.png").size == (16, 16)
    assert run("enhance", "in.png", "out.png", "--model", model, "--overwrite", "--skip-existing")[0] == 1


def test_two_files_that_would_become_one_are_refused(run, model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "x.png", noise_image(8, 8))
    code, _, err = run("enhance", "a/x.png", "b/x.png", "out", "--model", model)
    assert code == 1
    assert "would both become" in err
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize(
    ("options", "in_turn"),
    [
        (("--model", "clean-x2", "--scale", 3), "clean-x2,clean-x2"),
        (("--model", "x2", "--width", 48), "x2,x2"),
        (("--model", "denoise,clean-x2", "--scale", 3), "denoise,clean-x2,clean-x2"),
    ],
)
def test_beyond_its_scale_a_model_runs_twice(run, tmp_path, options, in_turn):
    save(tmp_path / "in.png", noise_image(16, 16))
    code, _, err = run("enhance", "in.png", "out.png", *options, "--precision", "fp32", "-q")
    assert (code, "x2 enlarges by 2: for 3, " in err, len(err.splitlines())) == (0, True, 1), err
    assert run("enhance", "in.png", "two.png", "--model", in_turn, *options[2:], "--precision", "fp32", "-q")[0] == 0
    found, expected = (np.asarray(Image.open(tmp_path / name)) for name in ("out.png", "two.png"))
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (48, 48, 3)


def test_two_models_are_refused(run, model, tmp_path):
    save(tmp_path / "in.png", noise_image(8, 8))
    code, _, err = run("enhance", "in.png", "out.png", "--model", "denoise", "--model", "x2")
    assert code == 2
    assert "--model" in err
    assert "more than once" in err
    assert not (tmp_path / "out.png").exists()


def test_the_bar_survives_a_terminal(run, model, tmp_path, monkeypatch):
    save(tmp_path / "in.png", noise_image(200, 300))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for limit in (500, 0):
        monkeypatch.setattr("sr_tile.cli.backends.MOST_HEADERS", limit)
        code, _, err = run("enhance", "in.png", "out.png", "--model", model, "--overwrite", "--tile-size", 64)
        assert code == 0
        assert "MP" in err


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


def test_version_and_help(run):
    alone = run()[1] + run()[2]
    assert "Usage" in alone
    examples = [line.split()[1:] for line in alone.splitlines() if line.startswith("    sr-tile enhance")]
    assert len(examples) == 3
    assert run("--version")[1].startswith("sr-tile ")
    assert "enhance" in run("--help")[1]


@pytest.mark.parametrize(
    "command", ["", *COMMANDS, *(f"models {name}" for name in ("list", "pull", "rm", "where")), "job status"]
)
def test_the_help_fits_a_terminal_and_speaks_of_no_type_of_python(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert not [
        line for line in out.splitlines() if re.search(r"<(str|int|float|path|list)|None|[^]]\.\.\.$|\{[^}]*[.:]", line)
    ]


def test_options_stand_under_the_headings_of_their_groups(run):
    headings = [line for line in run("enhance", "--help")[1].splitlines() if re.fullmatch(r"[A-Z].*:", line)]
    assert headings[0] == "Arguments:"
    assert headings[1] == "Which network, and where it runs:"
    assert len(headings) == 9


def test_the_shell_completes_commands_and_options(run, monkeypatch):
    for words, place, expected in (("sr-tile en", 1, "enhance"), ("sr-tile enhance --skip", 2, "--skip-existing")):
        monkeypatch.setenv("_SR_TILE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(place))
        assert run()[1].split() == [expected]


@pytest.mark.slow
def test_a_killed_run_leaves_no_output_or_a_whole_one(model, tmp_path):
    save(tmp_path / "in.png", noise_image(500, 400))
    command = [sys.executable, "-m", "sr_tile", "enhance", tmp_path / "in.png", tmp_path / "out.png"]
    command += ["--model", model, "--tile-size", "64", "--overlap", "8", "--batch-size", "1"]
    start = time.monotonic()
    subprocess.run(command, check=True)
    whole, seconds = (tmp_path / "out.png").read_bytes(), time.monotonic() - start
    outcomes = set()
    for moment in np.linspace(0.4, 1.0, 4):
        (tmp_path / "out.png").unlink(missing_ok=True)
        process = subprocess.Popen(command)
        time.sleep(seconds * moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        outcomes.add((tmp_path / "out.png").exists())
        if (tmp_path / "out.png").exists():
            assert (tmp_path / "out.png").read_bytes() == whole
    assert False in outcomes
