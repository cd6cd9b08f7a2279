"""Results of a size of one's own: the whole result reduced, and what no network has to see."""

import logging

import numpy as np
import pytest
from skimage import data
from support.pipelines import plan, run
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError
from sr_tile.images import ImageInfo, ImageReader, Metadata, Reduction, TargetSize
from sr_tile.images.resize import reduce_array
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.plan_image import result_of


def toy(scale):
    return ToyEngine(ModelSpec("toy", scale=scale, multiple=1))


def repeat(image, scale):
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [TargetSize(scale=1.5), TargetSize(width=77), TargetSize(fit=(61, 500), linear=True)])
def test_the_result_is_the_whole_enlarged_picture_reduced(size, channels):
    image = data.astronaut()[:48, :64, :channels]
    (result,) = run([image], toy(2), plan(16, 4, 2), size=size)
    target = Reduction(*size.of(48, 64), linear=size.linear)
    assert np.array_equal(result, reduce_array(repeat(image, 2), target))


def test_a_smaller_size_passes_by_an_enlarging_network_and_says_so(caplog):
    image, engine = data.astronaut()[:48, :64], toy(2)
    with caplog.at_level(logging.WARNING):
        (result,) = run([image], engine, plan(16), size=TargetSize(width=32))
    assert np.array_equal(result, reduce_array(image, Reduction(24, 32)))
    assert not engine.shapes
    assert "without the network" in caplog.text


def test_each_picture_of_a_list_goes_its_own_way(caplog):
    small, large, engine = data.astronaut()[:24, :30], data.astronaut()[:50, :90], toy(2)
    results = run([large, small, large], engine, plan(16), size=TargetSize(width=45))
    assert np.array_equal(results[1], reduce_array(repeat(small, 2), Reduction(36, 45)))
    for result in (results[0], results[2]):
        assert np.array_equal(result, reduce_array(large, Reduction(25, 45)))
    assert caplog.text.count("without the network") == 2


def test_a_network_that_does_not_enlarge_sees_every_picture(caplog):
    engine, image = toy(1), data.astronaut()[:48, :64]
    (result,) = run([image], engine, plan(16), size=TargetSize(scale=0.5))
    assert engine.shapes
    assert not caplog.text
    assert np.array_equal(result, reduce_array(image, Reduction(24, 32)))


def test_a_size_out_of_reach_names_the_bound():
    with pytest.raises(ArgumentError, match=r"200 x 100 pixels are wanted.*reaches 100 x 50 at most"):
        result_of(ImageInfo(25, 50, 3, np.uint8), 2, TargetSize(width=200))


def test_density_follows_the_real_factor():
    info = ImageInfo(100, 200, 3, np.uint8, Metadata(xres=10.0, yres=10.0))
    for size, factor in ((TargetSize(), 2), (TargetSize(scale=1.5), 1.5), (TargetSize(scale=0.5), 0.5)):
        assert result_of(info, 2, size).result.metadata.xres == pytest.approx(10 * factor)
    assert result_of(ImageInfo(3, 3, 1, np.uint8), 2, TargetSize(scale=1.5)).result.metadata.xres is None


def test_an_enhancer_takes_scales_and_sizes_for_arrays_and_files(tmp_path):
    image = data.astronaut()[:40, :60]
    with Enhancer(toy(4), scale=2.5) as enhancer:
        result = enhancer.enhance(image)
        assert result.shape == (100, 150, 3)
        from PIL import Image

        Image.fromarray(image).save(tmp_path / "in.png")
        enhancer.enhance_file(tmp_path / "in.png", tmp_path / "out.png")
    with ImageReader(tmp_path / "out.png") as reader:
        assert np.array_equal(reader.read_rows(100), result)
    with pytest.raises(ArgumentError, match="two sizes"):
        Enhancer(toy(4), scale=2, size=TargetSize(width=3))
