"""What the network sees beyond a picture's borders, against numpy.pad by more than that, in one piece, and cut."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.pipelines import plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError
from sr_tile.images import TargetSize
from sr_tile.images.edges import parse_edges
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings

RADIUS, PAD = 5, 24
MODES = {
    "wrap": ("wrap", "wrap"),
    "wrap-x": (None, "wrap"),
    "wrap-y": ("wrap", None),
    "mirror": ("reflect", "reflect"),
    "replicate": ("edge", "edge"),
}


def blur(scale=2, multiple=4):
    return BoxBlurEngine(RADIUS, spec=ModelSpec("blur", scale=scale, multiple=multiple))


def reference(image_hwc, edges, scale=2):
    """The network over the whole padded picture, cut: what `numpy.pad` and one call say."""
    own = image_hwc.shape[:2]
    pads = [PAD if mode else 0 for mode in MODES[edges]]
    for axis, mode in enumerate(MODES[edges]):
        if mode:
            image_hwc = np.pad(image_hwc, [(PAD, PAD) if axis == other else (0, 0) for other in range(3)], mode=mode)
    top = np.iinfo(image_hwc.dtype).max
    unit = np.moveaxis(image_hwc, -1, 0)[None].astype(np.float32) / top
    out = np.moveaxis(blur(scale).answer(unit)[0], 0, -1) * top
    (y, x), (height, width) = pads, own
    return out[y * scale : (y + height) * scale, x * scale : (x + width) * scale]


CASES = [(edges, *size) for edges in MODES for size in [(96, 60), (40, 132), (4, 52)]]
# Sides that are no whole cells of the grid, where the network itself has nothing to fill.
CASES += [(edges, *size) for edges in ("wrap", "mirror", "replicate") for size in [(97, 61), (3, 50), (1, 1)]]


@pytest.mark.parametrize(("edges", "height", "width"), CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_result_is_that_of_the_whole_padded_picture(edges, height, width, dtype):
    image = (noise_image(height, width).astype(np.float64) / 255 * np.iinfo(dtype).max).astype(dtype)
    (result,) = run([image], blur(), plan(32, 12, 5, 4, smallest=1), edges=parse_edges(edges))
    expected = reference(image, edges)
    assert result.shape == expected.shape
    assert np.abs(result.astype(np.float64) - expected).max() <= 1


def test_opposite_borders_of_a_wrapped_texture_are_neighbours():
    image = noise_image(48, 64)
    tiled = np.roll(image, (24, 32), axis=(0, 1))
    wrapped, moved = run([image, tiled], blur(), plan(32, 12, 5, 4), edges=parse_edges("wrap"))
    difference = np.abs(np.roll(wrapped, (48, 64), axis=(0, 1)).astype(int) - moved)
    assert difference.max() <= 1
    plain, moved = run([image, tiled], blur(), plan(32, 12, 5, 4))
    assert np.abs(np.roll(plain, (48, 64), axis=(0, 1)).astype(int) - moved).max() > 20  # or the above says nothing


def test_alpha_goes_on_as_colours_do_and_sizes_count_the_picture_alone():
    image = noise_image(48, 64, 4)
    image[..., 3] = np.maximum(image[..., 3], 1)
    done = []
    tiled = np.roll(image, (24, 32), axis=(0, 1))
    keywords = {"edges": parse_edges("wrap"), "on_progress": lambda job, pixels: done.append(pixels)}
    wrapped, moved = run([image, tiled], blur(), plan(32, 12, 5, 4), **keywords)
    assert np.abs(np.roll(wrapped, (48, 64), axis=(0, 1)).astype(int) - moved).max() <= 1
    assert sum(done) == 2 * 48 * 64
    (reduced,) = run([image], blur(), plan(32, 12, 5, 4), size=TargetSize(width=96), edges=parse_edges("wrap"))
    assert reduced.shape == (72, 96, 4)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_files_are_read_as_arrays_are(tmp_path, kind):
    image = Image.fromarray(noise_image(150, 60))
    image.save(tmp_path / f"a.{kind}", lossless=True) if kind == "webp" else image.save(tmp_path / f"a.{kind}")
    pixels = np.asarray(Image.open(tmp_path / f"a.{kind}").convert("RGB"))
    with Enhancer(blur(), edges="wrap", settings=Settings(tile=32, overlap=12, halo=5)) as enhancer:
        enhancer.enhance_file(tmp_path / f"a.{kind}", tmp_path / "b.png")
    found = np.asarray(Image.open(tmp_path / "b.png")).astype(np.float64)
    assert np.abs(found - reference(pixels, "wrap")).max() <= (3 if kind == "jpg" else 1)  # two decoders of JPEG


def test_what_cannot_be_is_one_line():
    with pytest.raises(ArgumentError, match="choose wrap, wrap-x"):
        Enhancer(ToyEngine(), edges="tile")
    with pytest.raises(ArgumentError, match="not with a chain"):
        Enhancer("denoise,clean-x2", edges="wrap")


def test_what_is_said_of_a_picture_is_said_once(tmp_path, caplog):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.random.default_rng(0).random((40, 50, 3), np.float32) * 7, photometric="rgb")
    with Enhancer(BoxBlurEngine(3, spec=ModelSpec("toy", 1, multiple=1)), edges="wrap") as enhancer:
        enhancer.enhance_file(path, tmp_path / "b.tif")
    assert len([record for record in caplog.records if "values from" in record.getMessage()]) == 1
