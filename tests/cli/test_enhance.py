"""What `enhance` does with files and folders, and what it tells of it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_files import save
from support.toys import noise_image, repeat


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
    assert run("enhance", "in.png", "out.png", "--model", model, "--overwrite", "--skip-existing")[0] == 2


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


def test_the_bar_survives_a_terminal(run, model, tmp_path, monkeypatch):
    save(tmp_path / "in.png", noise_image(200, 300))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for limit in (500, 0):
        monkeypatch.setattr("sr_tile.cli.backends.MOST_HEADERS", limit)
        code, _, err = run("enhance", "in.png", "out.png", "--model", model, "--overwrite", "--tile-size", 64)
        assert code == 0
        assert "MP" in err


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


@pytest.mark.parametrize("option", ["--skip-existing", "--quiet"])
def test_where_nothing_is_to_be_done_no_model_is_opened(run, model, tmp_path, monkeypatch, option):
    for name in ("in.png", "out.png"):
        save(tmp_path / name, noise_image(8, 8))
    monkeypatch.setattr("sr_tile.enhancer.Enhancer.__init__", lambda *_, **__: pytest.fail("a model was opened"))
    code, _, err = run("enhance", "in.png", "out.png", option)
    assert (code, "exists already" in err) == ((1, True) if option == "--quiet" else (0, False))
