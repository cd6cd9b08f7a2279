import json

import pytest
from support.toys import conv_model, identity_model


@pytest.fixture
def model(tmp_path):
    return conv_model(tmp_path / "m.onnx", depth=2)


@pytest.mark.slow
def test_json_table_plot_and_seams(run, model, tmp_path):
    pytest.importorskip("matplotlib")
    options = (
        "--model",
        model,
        "--device",
        "cpu",
        "--tile-size",
        "32",
        "--batch-size",
        "1,2",
        "--repeat",
        1,
        "--seams",
    )
    code, out, err = run("bench", *options, "--overlap", "0,8", "--json", "--plot", "out.png")
    figures = json.loads(out)
    assert code == 0
    assert {row["batch"] for row in figures["cells"]} >= {1, 2}
    assert {seam["overlap"] for seam in figures["seams"]} >= {0, 8}
    assert "round 1 of 1" in err
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    out = run("bench", *options)[1]
    assert "fastest: m fp32 cpu" in out
    assert "tiled against whole" in out


@pytest.mark.slow
def test_several_models_and_precisions_are_compared(run, tmp_path, model):
    other = identity_model(tmp_path / "other.onnx")
    options = ("--device", "cpu", "--tile-size", "32", "--batch-size", "1", "--repeat", 1, "--json")
    code, out, _ = run("bench", "--model", model, "--model", other, "--precision", "file", *options)
    assert code == 0
    assert {row["model"] for row in json.loads(out)["cells"]} == {"m", "other"}
    out = run("bench", "--model", model, "--precision", "file,fp16", *options)[1]
    assert {row["precision"] for row in json.loads(out)["cells"]} == {"fp32", "fp16"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--tile-size", "big"), 2, "list of whole numbers"),
        (("--batch-size", "1,,2"), 2, "list of whole numbers"),
        (("--batch-size", "0"), 2, "batch size is 0"),
        (("--repeat", "0"), 2, "--repeat"),
        (("--precision", "fp7"), 2, "choose from"),
        (("--precision", ","), 2, "empty list"),
        (("--device", "abacus"), 2, "choose one of"),
        (("--model", "unknown"), 2, "bundled models"),
        (("--plot", "none/out.png"), 2, "does not exist"),
        (("--plot", "out.doc"), 2, "plots end in"),
    ],
)
def test_wrong_arguments_say_what_to_do_before_anything_is_measured(run, model, arguments, code, words):
    options = arguments if "--model" in arguments else ("--model", model, *arguments)
    got, out, err = run("bench", *options)
    assert (got, out) == (code, "")
    assert words in err
