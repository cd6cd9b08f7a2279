import json
from pathlib import Path

import pytest
from support.toys import identity_model

from sr_tile.cli.inspect import inspect
from sr_tile.cli.models import list_models
from sr_tile.errors import ArgumentError
from sr_tile.models import listing, zoo
from sr_tile.models.licences import is_free


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def put(name, checkpoint):
    """A pulled model that says which file it came from."""
    zoo.pulled_folder().mkdir(parents=True, exist_ok=True)
    zoo.checkpoint_folder().mkdir(parents=True, exist_ok=True)
    (zoo.checkpoint_folder() / checkpoint).write_bytes(b"weights")
    described = f'{{"scale": 3, "multiple": 1, "licence": "MIT", "checkpoint_file": "{checkpoint}"}}'
    return identity_model(zoo.pulled_folder() / f"{name}.onnx", 3, metadata=described)


def test_a_folder_is_listed_with_what_its_files_say(tmp_path):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    identity_model(tmp_path / "mine" / "deep" / "a.onnx", 2, metadata='{"scale": 2, "licence": "CC0-1.0"}')
    (tmp_path / "mine" / "b.pth").write_bytes(b"12")
    (tmp_path / "mine" / "c.onnx").write_bytes(b"no model")
    (tmp_path / "mine" / "readme.txt").write_bytes(b"")
    rows = {row["name"]: row for row in listing.rows(tmp_path / "mine") if row["state"] == "own"}
    deep = str((tmp_path / "deep" / "a.onnx").relative_to(tmp_path))
    assert set(rows) == {deep, "b.pth", "c.onnx"}
    assert (rows[deep]["scale"], rows[deep]["licence"]) == (2, "CC0-1.0")
    assert (rows["b.pth"]["bytes"], rows["b.pth"]["scale"]) == (2, None)
    assert "damaged" in rows["c.onnx"]["purpose"]
    with pytest.raises(ArgumentError, match="no folder"):
        listing.rows(tmp_path / "gone")


def test_what_metadata_say_is_one_short_line(tmp_path, capsys):
    values = [{"a": 1}, [1], 3, "\n\nsr-tile: error: x", "\x1b]0;x", "a" * 100_000, {"a" * 9999: "\n"}]
    for number, value in enumerate(values):
        said = dict.fromkeys(("licence", "purpose", "source", "name"), value)
        identity_model(tmp_path / f"{number}.onnx", 2, metadata=json.dumps({"scale": 2, "multiple": 1, **said}))
    list_models(tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + len(listing.rows(tmp_path)), printed
    assert max(map(len, printed)) < 700
    for row in listing.of_folder(tmp_path):
        assert all(len(row[key]) <= 126 and row[key].isprintable() for key in ("licence", "purpose", "url"))
        assert len(listing.facts(Path(row["path"])).name) <= 126
    inspect(str(tmp_path / "6.onnx"), device="cpu")
    assert max(map(len, capsys.readouterr().out.splitlines())) < 1200


def test_a_model_goes_with_its_checkpoint_once_nobody_else_needs_it():
    for name in ("one", "two"):
        put(name, "shared.zip")
    assert {row["name"] for row in listing.rows() if row["state"] == "pulled"} == {"one", "two"}
    listing.remove("one")
    assert set(zoo.pulled()) == {"two"}
    assert [path.name for path in zoo.checkpoint_folder().iterdir()] == ["shared.zip"]
    assert listing.remove("two") > len(b"weights")
    assert not list(zoo.checkpoint_folder().iterdir())
    assert not list(zoo.pulled_folder().iterdir())


def test_a_model_cannot_name_a_file_outside_of_the_cache_to_be_removed(tmp_path):
    victim = tmp_path / "cache" / "victim"
    put("evil", "harmless.pth")
    victim.write_bytes(b"")
    path = zoo.pulled_folder() / "evil.onnx"
    identity_model(path, 3, metadata='{"scale": 3, "checkpoint_file": "../../victim"}')
    listing.remove("evil")
    assert victim.exists()


def test_what_cannot_be_removed_is_said():
    for name, words in (("photo-x2", "bundled"), ("x2", "bundled"), ("span-x2", "not pulled"), ("../a", "not pulled")):
        with pytest.raises(ArgumentError, match=words):
            listing.remove(name)


def test_free_licences():
    for name in ("MIT", "mit", "Apache-2.0", "GPL-3.0-or-later", "CC0-1.0"):
        assert is_free(name)
    for name in (None, "", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "proprietary", "MIT-ish"):
        assert not is_free(name)
