import pytest
from PIL import Image
from support.toys import ToyEngine, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError
from sr_tile.jobs.files import run_files
from sr_tile.jobs.report import write_json
from sr_tile.jobs.selection import select_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "in/b.png", "in/deep/c.jpg", "in/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise_image(8, 8)).save(tmp_path / name)
    return tmp_path


def pairs(*arguments, **keywords):
    return [(p.source, p.target) for p in select_files(*arguments, **keywords).pairs]


@pytest.mark.parametrize(
    ("output", "suffix", "target"),
    [
        ("out.png", None, "out.png"),
        ("out.v2", None, "out.v2"),
        ("out", None, "out/a.png"),
        ("out", ".webp", "out/a.webp"),
        ("out.v2/", None, "out.v2/a.png"),
        ("in", None, "in/a.png"),
        ("out.webp", ".webp", "out.webp"),
    ],
)
def test_one_file_goes_to_a_file_where_the_output_has_a_suffix(folder, output, suffix, target):
    assert pairs(["a.png"], output, suffix=suffix) == [("a.png", target)]


def test_folders_keep_places_and_hidden_files_are_left(folder):
    assert pairs(["in"], "out") == [("in/b.png", "out/b.png")]
    assert pairs(["in"], "out", recursive=True) == [("in/b.png", "out/b.png"), ("in/deep/c.jpg", "out/deep/c.jpg")]
    assert pairs(["*.png", "a.png"], "out") == [("a.png", "out/a.png")]


def test_results_inside_the_input_folder_are_no_inputs(folder):
    first = pairs(["in"], "in/out", recursive=True)
    for _, target in first:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes((folder / "a.png").read_bytes())
    assert pairs(["in"], "in/out", recursive=True) == first


def test_what_contradicts_is_refused(folder):
    with pytest.raises(ArgumentError, match="contradict"):
        select_files(["a.png"], "out.jpg", suffix=".png")
    with pytest.raises(ArgumentError, match="need a folder"):
        select_files(["a.png", "in"], "a.png")
    with pytest.raises(ImageReadError, match="no image"):
        select_files(["*.tif"], "out")
    (folder / "in" / "a.png").write_bytes(b"")
    with pytest.raises(ArgumentError, match="both become"):
        select_files(["a.png", "in/a.png"], "out")


def test_a_missing_input_is_reported_and_the_rest_is_done(folder):
    found = select_files(["a.png", "gone.png", "in"], "out").pairs
    results = list(run_files(Enhancer(ToyEngine()), found))
    assert {result.source: result.status for result in results} == {
        "a.png": "done",
        "gone.png": "failed",
        "in/b.png": "done",
    }


def test_every_file_has_exactly_one_result(folder):
    (folder / "in" / "bad.png").write_bytes(b"bad")
    (folder / "out").mkdir()
    (folder / "out" / "b.png").write_bytes(b"kept")
    results = list(run_files(Enhancer(ToyEngine()), select_files(["a.png", "in"], "out").pairs, existing="skip"))
    assert sorted((r.source, r.status) for r in results) == [
        ("a.png", "done"),
        ("in/b.png", "skipped"),
        ("in/bad.png", "failed"),
    ]


def test_json_is_written_whole_or_refused_in_one_line(tmp_path):
    write_json(tmp_path / "r.json", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    with pytest.raises(ImageWriteError, match="folder that exists"):
        write_json(tmp_path / "none" / "r.json", {})
