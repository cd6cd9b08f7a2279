"""Networks in turn, against doing them one by one in float."""

import numpy as np
import pytest
from PIL import Image
from support.pipelines import array_job, plan
from support.toys import BoxBlurEngine, ToyEngine, conv_model, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageReadError, OutOfMemoryError, SrTileError
from sr_tile.export.find_model import steps_of
from sr_tile.images import TargetSize
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.chain import run_chain
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline


def blur(radius, scale):
    return BoxBlurEngine(radius, spec=ModelSpec("toy", scale, multiple=1))


def chained(jobs, first, second, **keywords):
    before, behind = Pipeline(first, plan(32, 8, 4)), Pipeline(second, plan(48, 12, 4), **keywords)
    return run_chain(before.run, behind.run, jobs)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scales", [(1, 2), (2, 1), (2, 2)])
def test_a_chain_is_the_one_behind_the_other_in_float(scales, channels):
    images = [noise_image(50 + 7 * k, 61, channels) for k in range(5)]
    outcomes = list(chained([array_job(image) for image in images], blur(2, scales[0]), blur(3, scales[1])))
    assert sorted(outcome.index for outcome in outcomes) == list(range(5))
    with Enhancer(blur(2, scales[0])) as first, Enhancer(blur(3, scales[1])) as second:
        for outcome in outcomes:
            image = images[outcome.index]
            expected = second.enhance(first.enhance(image.astype(np.float32) / np.float32(255)))
            found = outcome.sink.pixels_hwc
            assert found.dtype == np.uint8
            np.testing.assert_allclose(found, expected * 255, atol=0.51)


@pytest.mark.parametrize(
    ("model", "scale", "steps"),
    [
        (None, 8, ["photo-x4", "clean-x2"]),
        ("clean-x2", 3, ["clean-x2", "clean-x2"]),
        (["denoise", "x2"], 4, ["denoise", "x2", "x2"]),
    ],
)
def test_what_a_model_does_not_reach_models_in_turn_do(model, scale, steps):
    image = noise_image(12, 10)
    with Enhancer(model, scale=scale, device="cpu") as found, Enhancer(steps, scale=scale, device="cpu") as expected:
        result = found.enhance(image)
        np.testing.assert_array_equal(result, expected.enhance(image))
    assert result.shape == (12 * scale, 10 * scale, 3)


def failing(name):
    def fail():
        raise ImageReadError(f"{name}: broken")

    return ImageJob(name, fail, lambda info: None)


def test_a_picture_that_fails_in_any_step_stops_no_other():
    def refuse(info):
        raise ImageReadError("c: no sink")

    good = [array_job(noise_image(40, 50), name) for name in "abd"]
    no_sink = ImageJob("c", good[0].open_source, refuse)
    outcomes = list(chained([good[0], failing("x"), good[1], no_sink, good[2]], blur(1, 1), blur(1, 2)))
    found = {outcome.index: str(outcome.error) if outcome.error else None for outcome in outcomes}
    assert found == {0: None, 1: "x: broken", 2: None, 3: "c: no sink", 4: None}


def test_what_is_given_up_midway_ends_all_threads():
    import threading

    outcomes = chained((array_job(noise_image(200, 200)) for _ in range(50)), blur(1, 1), blur(1, 2))
    next(outcomes)
    outcomes.close()
    assert not [thread for thread in threading.enumerate() if "chain" in thread.name]


@pytest.mark.parametrize("step", [0, 1])
def test_a_device_without_room_for_the_smallest_tile_is_an_error_and_no_hang(step):
    engines = [blur(1, 1), blur(1, 2)]
    engines[step] = ToyEngine(ModelSpec("toy", step + 1, multiple=1), fails=lambda call, shape: True)
    errors = []
    try:
        errors = [outcome.error for outcome in chained([array_job(noise_image(64, 64))], *engines)]
    except OutOfMemoryError as error:
        errors.append(error)
    assert errors
    assert all(isinstance(error, SrTileError) for error in errors)


def test_smaller_tiles_in_the_middle_of_a_chain_are_said():
    second = ToyEngine(ModelSpec("toy", 2, multiple=1), fails=lambda call, shape: max(shape[2:]) > 100)
    before, behind = Pipeline(blur(1, 1), plan(32, 8, 4)), Pipeline(second, plan(128, 12, 4))
    (outcome,) = run_chain(before.run, behind.run, [array_job(noise_image(300, 300))])
    assert isinstance(outcome.error, OutOfMemoryError)
    assert "--tile-size" in str(outcome.error)


def test_files_names_and_sizes(tmp_path):
    conv_model(tmp_path / "one.onnx", 1)
    conv_model(tmp_path / "two.onnx", 2)
    chain = [tmp_path / "one.onnx", str(tmp_path / "two.onnx")]
    image = noise_image(40, 50)
    Image.fromarray(image).save(tmp_path / "in.png")
    with Enhancer(chain[0], device="cpu") as first, Enhancer(chain[1], device="cpu") as second:
        expected = second.enhance(first.enhance(image.astype(np.float32) / 255))
    for model in (chain, ",".join(map(str, chain))):
        with Enhancer(model, device="cpu") as enhancer:
            assert enhancer.scale == 2
            np.testing.assert_allclose(enhancer.enhance(image), expected * 255, atol=0.51)
            enhancer.enhance_file(tmp_path / "in.png", tmp_path / "out.png", overwrite=True)
            with Image.open(tmp_path / "out.png") as written:
                np.testing.assert_allclose(np.asarray(written), expected * 255, atol=0.51)
    with Enhancer([chain[1], chain[1]], size=TargetSize(scale=3), device="cpu") as enhancer:
        assert enhancer.scale == 4
        assert enhancer.enhance(image).shape == (120, 150, 3)


def test_what_a_chain_is():
    assert steps_of("denoise, photo-x2") == ["denoise", "photo-x2"]
    assert steps_of("photo-x2") == ["photo-x2"]
    assert steps_of(None) == steps_of([ToyEngine(), ToyEngine()]) == []
