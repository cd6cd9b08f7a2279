"""Images through the models of a server."""

import pytest
from PIL import Image
from support.toys import ToyEngine, noise_image

from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings
from sr_tile.serving.http.model_pool import ImageRequest, ModelPool
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
