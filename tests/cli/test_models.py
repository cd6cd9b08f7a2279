import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.toys import identity_model, noise_image, repeat

from sr_tile.models import zoo


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_where_prints_the_path_alone(run):
    code, out, err = run("models", "where", "x2")
    assert (code, err) == (0, "")
    assert Path(out.removesuffix("\n")) == zoo.find("x2")


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [("scunet-color-real-psnr", 1, "models pull scunet-color-real-psnr"), ("nothing", 2, "is not known")],
)
def test_where_says_how_to_get_what_is_not_there(run, name, expected, words):
    for arguments in (("models", "where", name), ("enhance", "in.png", "out.png", "--model", name), ("inspect", name)):
        Image.fromarray(noise_image(8, 8)).save("in.png") if arguments[0] == "enhance" else None
        code, out, err = run(*arguments)
        assert (code, out) == (expected, "")
        assert words in err
        assert len(err.strip().splitlines()) == 1


def test_list_names_every_model_once(run):
    code, out, _ = run("models", "list")
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert code == 0
    assert names == [*zoo.bundled(), *zoo.OFFICIAL]
    rows = json.loads(run("models", "list", "--json")[1])
    assert [row["name"] for row in rows] == names
    assert all(row["url"] and row["scale"] for row in rows if row["state"] == "available")
    assert all(row["purpose"] and row["bytes"] and row["licence"] for row in rows if row["state"] == "bundled")
    assert {row["default"]: row["name"] for row in rows if row["default"]} == zoo.DEFAULT


def test_a_pulled_model_enhances_by_its_name(run, tmp_path, monkeypatch):
    def deliver(url, target, sha256, *, on_bytes=None):
        target.write_bytes(b"weights")

    def export(checkpoint, output, pooling):
        shutil.copy(identity_model(tmp_path / "source.onnx", 2), output)

    monkeypatch.setattr("sr_tile.export.pull.download", deliver)
    monkeypatch.setattr("importlib.import_module", lambda name: type("Module", (), {"export": staticmethod(export)}))
    code, out, err = run("models", "pull", "scunet-color-real-psnr")
    assert (code, err) == (0, "")
    assert Path(out.strip()) == zoo.find("scunet-color-real-psnr")
    image = noise_image(40, 50)
    Image.fromarray(image).save(tmp_path / "in.png")
    assert run("enhance", "in.png", "out.png", "--model", "scunet-color-real-psnr")[0] == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), repeat(image, 2))
    assert "pulled" in next(line for line in run("models", "list")[1].splitlines() if "real-psnr" in line)


def test_what_cannot_be_pulled_is_one_line(run):
    for arguments, words in (
        (("scunet-gray-25",), "--sha256"),
        (("x2",), "bundled"),
        (("nothing",), "`sr-tile models list` names"),
    ):
        code, out, err = run("models", "pull", *arguments)
        assert (code, out) == (2, "")
        assert words in err
        assert len(err.strip().splitlines()) == 1
    assert "no hash of http://host/net.pth is known" in run("models", "pull", "http://host/net.pth")[2]


def test_own_models_are_listed_found_and_removed(run, tmp_path):
    (tmp_path / "mine").mkdir()
    own = identity_model(tmp_path / "mine" / "own.onnx", 2)
    line = next(line for line in run("models", "list", "--models", "mine")[1].splitlines() if "own.onnx" in line)
    assert line.split()[:2] == ["own.onnx", "own"]
    assert Path(run("models", "where", "own.onnx", "--models", "mine")[1].strip()).resolve() == own.resolve()
    zoo.pulled_folder().mkdir(parents=True)
    shutil.copy(own, zoo.pulled_folder() / "gone.onnx")
    code, out, _ = run("models", "rm", "gone")
    assert (code, "freed" in out) == (0, True)
    code, _, err = run("models", "rm", "gone")
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert "not pulled" in err
