import pytest

from sr_tile.errors import ArgumentError, ModelLoadError
from sr_tile.models import zoo


def test_bundled_models_are_found_by_name_scale_and_default():
    assert zoo.find() == zoo.find("x2") == zoo.find(scale=2)
    assert set(zoo.DEFAULT.values()) <= set(zoo.bundled())


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "x2"
    path.write_bytes(b"")
    assert zoo.find(path) == path


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    for model in ("no-such", tmp_path / "gone.onnx"):
        with pytest.raises(ModelLoadError, match="x2"):
            zoo.find(model)
    with pytest.raises(ArgumentError, match="enlarges by 7"):
        zoo.find(scale=7)
