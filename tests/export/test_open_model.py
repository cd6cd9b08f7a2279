"""A model in a precision: files in fewer bits are made once, where they were asked for by name."""

import numpy as np
import pytest
from support.toys import conv_model, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import PrecisionLossError
from sr_tile.export import find_model, precision


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: False)
    return conv_model(tmp_path / "net.onnx", 2, depth=4, metadata='{"scale": 2, "multiple": 1}')


@pytest.mark.slow
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_int8_is_made_once(path, monkeypatch, device):
    made = []
    real = precision.convert
    monkeypatch.setattr(precision, "convert", lambda *args: (made.append(args[2]), real(*args, max_loss_db=20))[1])
    image = noise_image(40, 50)
    with Enhancer(path, precision="fp32") as exact:
        wanted = exact.enhance(image)
    results = []
    for _ in range(2):
        with Enhancer(path, device=device, precision="int8") as enhancer:
            results.append(enhancer.enhance(image))
            assert enhancer.stats.precision == "int8"
            assert "--precision int8" in enhancer.stats.why
    assert made == ["int8"]
    assert np.array_equal(*results)
    assert not np.array_equal(results[0], wanted)
    assert np.abs(results[0].astype(int) - wanted).mean() < 8


def test_a_file_of_an_earlier_recipe_is_not_taken(path, monkeypatch):
    monkeypatch.setattr(precision, "convert", lambda source, target, _: target.write_bytes(source.read_bytes()))
    files = [find_model._converted(path, "int8")]
    monkeypatch.setattr(find_model, "RECIPE", find_model.RECIPE + 1)
    files += [find_model._converted(path, "int8"), find_model._converted(path, "int8")]
    assert files[0] != files[1] == files[2]


def test_a_model_that_loses_too_much_is_an_error(path, monkeypatch):
    real = precision.convert
    monkeypatch.setattr(precision, "convert", lambda *args: real(*args, max_loss_db=-1.0))
    with pytest.raises(PrecisionLossError):
        Enhancer(path, precision="int8")


def test_auto_converts_nothing(path, monkeypatch):
    monkeypatch.setattr(find_model, "_converted", lambda *_: pytest.fail("converted"))
    with Enhancer(path) as enhancer:
        enhancer.enhance(noise_image(520, 510))
