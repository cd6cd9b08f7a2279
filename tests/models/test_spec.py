import numpy as np
import pytest
from support.toys import identity_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ModelLoadError
from sr_tile.models.spec import ModelSpec, write_spec


def test_metadata_makes_the_round_trip_through_a_model_file(tmp_path):
    path = identity_model(tmp_path / "m.onnx", 2)
    spec = ModelSpec("n", 2, 3, 8, 12, 256, (0.0, 255.0), details={"licence": "MIT", "receptive_field": 40})
    write_spec(path, spec)
    engine = OnnxEngine(path, "cpu")
    assert engine.spec == spec
    assert engine.spec.details == spec.details
    assert {item.name for item in tmp_path.iterdir()} == {"m.onnx"}
    batch = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    assert np.array_equal(engine.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))


def test_nothing_said_is_left_to_be_measured():
    spec = ModelSpec.from_metadata(None, "name")
    assert (spec.name, spec.scale, spec.multiple, spec.halo, spec.tile) == ("name", None, None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "3", "{", "[" * 200_000, '{"value_range": 5}', '{"value_range": [0]}', '{"value_range": [0, 1e999]}',
        '{"value_range": [0, NaN]}', '{"halo": -1}', '{"halo": {}}', '{"tile": true}', '{"tile": 1000000000}',
        '{"scale": 1e999}',
        '{"multiple": 1e3}', '{"scale": ' + "9" * 5000 + "}", '{"receptive_field": {"a": 1}}', '{"receptive_field": 1e999}',
    ],
)  # fmt: skip
def test_broken_metadata_is_refused(text):
    with pytest.raises(ModelLoadError, match="model name"):
        ModelSpec.from_metadata(text, "name")


@pytest.mark.parametrize("name", ["a\\u001b]0;owned\\u0007", "\\ud800", "two\\nlines", "\\u202egnp.a"])
def test_a_name_cannot_steer_a_terminal(name):
    spec = ModelSpec.from_metadata(f'{{"scale": 2, "name": "{name}"}}', "file")
    assert spec.name.isprintable()
    assert spec.name.encode()


@pytest.mark.parametrize("text", ['{"smallest":-1}', '{"padding":"mirror"}', '{"padding":["reflect"]}'])
def test_a_padding_that_means_nothing_is_refused(text):
    with pytest.raises(ModelLoadError, match="model n: "):
        ModelSpec.from_metadata(text, "n")
