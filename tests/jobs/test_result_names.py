"""Names by a template: against Python's own formatting of what Pillow says of the results."""

import pytest
from PIL import Image
from support.toys import conv_model, noise_image

from sr_tile.errors import ArgumentError
from sr_tile.jobs.result_names import by_template, check_template
from sr_tile.jobs.selection import FilePair


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.fromarray(noise_image(20, 30)).save("in/a.png")
    Image.fromarray(noise_image(16, 40)).save("in/b.bmp")
    conv_model(tmp_path / "net.onnx", 2)
    return tmp_path


@pytest.fixture
def enhance(run):
    return lambda *arguments: run("enhance", *arguments, "--quiet")


@pytest.mark.parametrize(
    ("size", "wanted"), [([], (60, 40)), (["--width", "45"], (45, 30)), (["--scale", "1.5"], (45, 30))]
)
def test_width_and_height_are_those_of_the_result(folder, enhance, size, wanted):
    template = "{model}_{stem}-{width}x{height}{ext}"
    assert enhance("in/a.png", "--model", "net.onnx", "--output-template", template, *size)[0] == 0
    (found,) = (folder / "in").glob("net_*")
    assert found.name == f"net_a-{wanted[0]}x{wanted[1]}.png"
    with Image.open(found) as image:
        assert image.size == wanted


def test_a_folder_keeps_its_places_and_suffixes(folder, enhance):
    code, _, err = enhance("in", "out", "--model", "net.onnx", "--output-template", "big/{stem}@{width}{ext}")
    assert code == 0, err
    assert sorted(path.name for path in (folder / "out" / "big").iterdir()) == ["a@60.png", "b@80.png"]


@pytest.mark.parametrize("template", ["", " ", "{stem", "{}", "{size}{ext}", "{stem:>9}", "{stem!r}", "{stem.x}", "a/"])
def test_what_makes_no_name_is_refused_in_one_line(folder, enhance, template):
    with pytest.raises(ArgumentError, match="--output-template"):
        check_template(template)
    code, _, err = enhance("in", "out", "--output-template", template)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize("template", ["same{ext}", "../in/b.bmp"])
def test_no_two_results_have_one_name_and_none_that_of_an_input(folder, template):
    pairs = [FilePair("in/a.png", "out/a.png"), FilePair("in/c.png", "out/c.png"), FilePair("in/b.bmp", "out/b.png")]
    with pytest.raises(ArgumentError, match="make the names differ"):
        by_template(pairs, template, "net", lambda path: (1, 1))


def test_a_file_as_output_contradicts_it(folder, enhance):
    code, _, err = enhance("in/a.png", "b.png", "--output-template", "{stem}2{ext}")
    assert code == 2
    assert "both name the result" in err


def test_a_file_is_looked_at_once_for_its_name_and_its_model(folder, run, monkeypatch):
    from sr_tile.images import ImageReader, damage_signs
    from sr_tile.jobs import default_model

    looked, opened = [], []
    condition_of, init = damage_signs.condition_of, ImageReader.__init__
    monkeypatch.setattr(default_model, "condition_of", lambda path: looked.append(path) or condition_of(path))
    monkeypatch.setattr(ImageReader, "__init__", lambda self, path, **keywords: opened.append(path) or init(self, path))
    assert run("enhance", "in/a.png", "--output-template", "{stem}@{width}{ext}", "--width", "45")[0] == 0
    assert (folder / "in" / "a@45.png").is_file()
    assert (len(looked), len(opened)) == (1, 3)  # its header, signs of damage, its rows
