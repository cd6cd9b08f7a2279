"""Images through the models of a server."""

import pytest
from PIL import Image
from support.toys import ToyEngine, noise_image

from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.image_request import ImageRequest
from sr_tile.serving.http.model_pool import ModelPool
from sr_tile.serving.http.options import Options


def request(folder, channels, **options):
    path = folder / "upload"
    Image.fromarray(noise_image(640, 640, channels).squeeze()).save(path, "PNG")
    return ImageRequest(path, folder, options=Options.model_validate(options))


def pool(engine):
    return ModelPool({"toy": engine}, settings=Settings(tile=64, overlap=0, halo=0))


@pytest.mark.parametrize("alpha", ["bicubic", "model"])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_as_many_tiles_are_announced_as_are_done(channels, scale, alpha, tmp_path):
    announced = []
    image = request(tmp_path, channels, alpha=alpha)
    image.on_tile = lambda: announced.append(image.tiles)
    models = pool(ToyEngine(ModelSpec("toy", scale=scale, multiple=1)))
    models.start()
    try:
        models.run(image)
    finally:
        models.stop()
    # Bicubic interpolation needs two pixels around each tile.
    expected = 121 if channels in (2, 4) and alpha == "bicubic" and scale > 1 else 100
    assert announced == [expected] * expected
    assert image.tiles == image.tiles_done == expected


def test_an_image_that_starts_again_with_smaller_tiles_announces_those(tmp_path):
    image = request(tmp_path, 3)
    models = pool(ToyEngine(fails=lambda call, shape: max(shape[2:]) > 32))
    models.start()
    try:
        models.run(image)
    finally:
        models.stop()
    assert image.tiles == image.tiles_done == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "after", "model"),
    [
        ({"width": 1000}, (1000, 1000), "two"),
        ({"scale": "1.5"}, (960, 960), "two"),
        ({"fit": "2000x9000", "linear": "true"}, (2000, 2000), "four"),
        ({"scale": 3}, (1920, 1920), "four"),
        ({"model": "four", "scale": 2}, (1280, 1280), "four"),
        ({"megapixels": 0.04}, (200, 200), None),
    ],
)
def test_a_size_is_reached_by_the_least_model_that_can(options, after, model, tmp_path):
    engines = {name: ToyEngine(ModelSpec(name, scale=scale, multiple=1)) for name, scale in (("two", 2), ("four", 4))}
    host = ModelPool(engines, settings=Settings(tile=64, overlap=0, halo=0))
    host.start()
    image = request(tmp_path, 3, **options)
    try:
        done = host.run(image)
    finally:
        host.stop()
    with Image.open(done.path) as result:
        assert (result.height, result.width) == done.after == after
    assert {name for name, engine in engines.items() if engine.shapes} == ({model} if model else set())
    assert image.tiles == image.tiles_done == 100


@pytest.mark.parametrize("options", [{"scale": 5}, {"width": 9999}, {"width": 5, "height": 5}, {"fit": "wide"}])
def test_a_size_that_cannot_be_is_refused(options, tmp_path):
    host = pool(ToyEngine(ModelSpec("toy", scale=2, multiple=1)))
    host.start()
    try:
        with pytest.raises(HttpError) as caught:
            host.run(request(tmp_path, 3, **options))
    finally:
        host.stop()
    assert caught.value.status == 422
