import json
import re

import numpy as np
import pytest
from PIL import Image
from skimage import data
from support.toys import conv_model, identity_model

LOCAL = '{"scale": 2, "multiple": 8, "halo": 4, "tile": 256}'


@pytest.fixture
def model(tmp_path):
    return conv_model(tmp_path / "m.onnx", metadata=LOCAL)


def test_the_choice_stands_above_its_alternatives_with_costs_and_reasons(run, model):
    code, out, err = run("plan", "--size", "1000x700", "--model", model, "--device", "cpu")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "m on cpu, 1 image, 0.7 megapixels"
    assert lines[2].startswith("choice")
    assert len(lines) > 6
    for words in ("overlap 8, halo 4: what the model's measured halo of 4 asks for", "any side will do", "batch "):
        assert words in out


def test_the_choice_is_not_shown_as_its_own_alternative(run, model):
    for size in ("200x150", "1000x700"):
        lines = run("plan", "--size", size, "--model", model, "--device", "cpu")[1].splitlines()
        rows = [tuple(line[12:].split()[:5]) for line in lines if re.match(r"choice|\d+\.\d\d x", line)]
        assert len(set(rows)) == len(rows), lines


def test_figures_for_programs_are_those_of_the_grid(run, model):
    found = json.loads(run("plan", "--size", "1000x700", "--model", model, "--device", "cpu", "--json")[1])
    for option in (found["choice"], *found["alternatives"]):
        height, width = option["tile"]
        tiles = option["redundancy"] * 700_000 / (height * width)
        assert tiles == pytest.approx(round(tiles))
        assert option["calls"] == -(-round(tiles) // option["batch"])
        assert option["seconds"] > 0
        assert option["call_bytes"] > 0
    shown = [(option["tile"], option["calls"], option["seconds"]) for option in map(dict, found["alternatives"])]
    assert len(set(map(str, shown))) == len(shown)
    assert found["choice"]["seconds"] <= 1.04 * min(option["seconds"] for option in found["alternatives"])


def test_what_was_measured_is_kept_and_enhance_goes_by_it_until_it_is_measured_again(run, model, tmp_path):
    arguments = ("plan", "--size", "90x70", "--model", model, "--device", "cpu", "--json")
    first, second = (json.loads(run(*arguments)[1]) for _ in range(2))
    assert first == second
    third = json.loads(run(*arguments, "--remeasure")[1])
    assert third["measured"] != first["measured"]


def test_options_are_those_of_enhance(run, model):
    arguments = ("--model", model, "--tile-size", "64", "--overlap", "16", "--batch-size", "3", "--device", "cpu")
    found = json.loads(run("plan", "--size", "1000x700", *arguments, "--json")[1])
    assert max(found["choice"]["tile"]) == 64
    assert (found["choice"]["batch"], found["overlap"]) == (3, 16)
    assert [reason.split(": ")[1] for reason in found["why"]] == ["as you say"] * 3
    code, _, err = run("plan", "--size", "1000x700", "--model", model, "--mem-limit", "1MiB", "--device", "cpu")
    assert code == 1
    assert "--mem-limit leaves" in err


def test_a_model_of_fixed_size_has_no_alternatives(run, tmp_path):
    identity_model(tmp_path / "fixed.onnx", shape=(2, 3, 32, 48))
    code, out, _ = run("plan", "--size", "100x100", "--model", "fixed.onnx", "--device", "cpu")
    assert code == 0
    assert "32 x 48" in out
    assert "the graph takes no other" in out
    assert len([line for line in out.splitlines() if " x " in line]) == 1


def test_images_are_read_by_their_headers_and_broken_ones_left_out(run, model, tmp_path):
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (30, 20)), ("b.png", (300, 200))):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / "in" / name)
    half = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(half[: len(half) // 2])  # the header is whole, the pixels are not
    (tmp_path / "in" / "c.png").write_bytes(b"no image")
    found = json.loads(run("plan", "in", "--model", model, "--device", "cpu", "--json")[1])
    assert found["images"] == 2
    assert found["megapixels"] == pytest.approx(0.0606)


@pytest.mark.parametrize("arguments", [("--model", "m.onnx,m.onnx"), ("--model", "m.onnx", "--scale", "3")])
def test_networks_in_turn_have_a_plan_each(run, model, arguments):
    code, out, err = run("plan", "--size", "30x20", *arguments, "--device", "cpu")
    assert (code, [line.split(",")[0] for line in out.splitlines() if " on cpu, " in line]) == (0, ["m on cpu"] * 2), (
        err
    )
    assert ("60 x 40 -> network x2: 120 x 80 -> reduced: 90 x 60" in out) == ("3" in arguments)
    found = json.loads(run("plan", "--size", "30x20", *arguments, "--device", "cpu", "--json")[1])
    assert [found["model"], *(step["model"] for step in found["then"])] == ["m", "m"]
    assert found["then"][0]["megapixels"] == 4 * found["megapixels"]


@pytest.mark.parametrize("arguments", [(), ("--size", "4000"), ("--size", "0x10"), ("--size", "axb")])
def test_wrong_usage_is_told(run, arguments):
    assert run("plan", *arguments)[0] == 2


def test_the_model_is_the_one_that_enhance_takes(run, tmp_path, monkeypatch):
    small = {name: conv_model(tmp_path / f"{name}.onnx", metadata=LOCAL) for name in ("photo-x2", "clean-x2")}
    monkeypatch.setattr("sr_tile.models.zoo.bundled", lambda: small)
    image = Image.fromarray(data.astronaut()).resize((96, 96), Image.Resampling.BICUBIC)
    image.save(tmp_path / "clean.png")
    image.save(tmp_path / "usual.jpg", quality=75)
    for names in (("clean.png",), ("clean.png", "usual.jpg")):
        out = run("plan", *names, "--device", "cpu")[1]
        told = run("enhance", *names, "out/", "--overwrite", "--device", "cpu")[2].splitlines()[0]
        assert told.startswith(f"sr-tile: {out.split()[0]}: "), (out, told)
        assert told.split(": ", 2)[2].partition(";")[0] in out


def test_missing_images_are_told(run, tmp_path):
    code, _, err = run("plan", "nothing.png")
    assert code == 1
    assert "there is no such file or folder" in err
    (tmp_path / "empty").mkdir()
    assert "holds no image" in run("plan", "empty")[2]


@pytest.mark.slow
def test_the_steps_to_a_size_are_shown(run, tmp_path):
    two, four = (conv_model(tmp_path / f"{scale}.onnx", scale) for scale in (2, 4))
    code, out, _ = run("plan", "--size", "200x150", "--fit", "330x1000", "--model", two, "--device", "cpu")
    assert code == 0
    assert "200 x 150 -> network x2: 400 x 300 -> reduced: 330 x 248" in out
    code, out, _ = run("plan", "--size", "200x150", "--width", "500", "--linear", "--model", four, "--device", "cpu")
    assert "network x4: 800 x 600 -> reduced in linear light: 500 x 375" in out
    code, out, _ = run("plan", "--size", "200x150", "--width", "100", "--model", two, "--device", "cpu")
    assert "200 x 150 -> reduced: 100 x 75" in out
