import pytest
from PIL import Image
from support.toys import ToyEngine, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageWriteError
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
