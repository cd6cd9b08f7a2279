"""Float TIFFs through a network and back, against NumPy, tifffile, Pillow and a run on the whole picture."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data
from support.toys import conv_model, identity_model, repeat

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageReadError
from sr_tile.images import ImageReader, TargetSize
from sr_tile.images.float_range import FloatRange, measure
from sr_tile.images.vips import vips
from sr_tile.planner import Settings

RANGES = {
    "within": (0.0, 1.0, 0.0),
    "sun": (0.0, 1.0, 20_000.0),
    "counts": (120.0, 65_535.0, 0.0),
    "signed": (-3.0, 2.0, 0.0),
    "hole": (0.0, 1.0, -5_000.0),
}


def picture(kind, channels=3, dtype=np.float32):
    """(90, 110, channels); a few pixels lie at the extreme."""
    least, largest, extreme = RANGES[kind]
    unit = data.astronaut()[100:190, 100:210] / 255
    pixels = (least + unit * (largest - least)).astype(np.float32)
    pixels[5, 5:8] = extreme or pixels[5, 5:8]
    if channels in (1, 2):
        pixels = pixels[..., 1:2]
    if channels in (2, 4):
        alpha = np.linspace(0.2, 1, pixels.shape[0] * pixels.shape[1], dtype=np.float32)
        pixels = np.concatenate([pixels, alpha.reshape(*pixels.shape[:2], 1)], axis=2)
    return pixels.astype(dtype)


def write(path, pixels_hwc, **keywords):
    channels = pixels_hwc.shape[2]
    keywords |= {"photometric": "rgb" if channels > 2 else "minisblack"}
    if channels in (2, 4):
        keywords.setdefault("extrasamples", ["unassalpha"])
    tifffile.imwrite(path, pixels_hwc[..., 0] if channels == 1 else pixels_hwc, **keywords)


def span(pixels_hwc):
    finite = pixels_hwc[np.isfinite(pixels_hwc)]
    return max(1.0, float(finite.max())) - min(0.0, float(finite.min()))


def enhanced(folder, model, **keywords):
    """What becomes of in.tif, read by tifffile."""
    with Enhancer(model, device="cpu", **keywords) as enhancer:
        enhancer.enhance_file(folder / "in.tif", folder / "out.tif")
    values = tifffile.imread(folder / "out.tif")
    return values[..., None] if values.ndim == 2 else values


@pytest.mark.parametrize("kind", RANGES)
def test_the_way_into_the_network_s_range_leads_back(kind):
    values = picture(kind)
    found = measure([values[:40], values[40:]], values.shape[0] * values.shape[1])
    if kind == "within":
        assert found is None
        return
    unit = found.to_unit(values)
    assert unit.min() >= 0
    assert unit.max() <= 1
    ordered = np.argsort(values, axis=None)
    assert (np.diff(unit.ravel()[ordered]) >= 0).all()
    image = vips().Image.new_from_memory(unit.tobytes(), 110, 90, 3, "float")
    back = np.frombuffer(found.from_unit(image).write_to_memory(), np.float32).reshape(values.shape)
    small = abs(values) <= 2 * found.white
    assert abs(back - values)[small].max() <= 3e-6 * (found.white - found.black)
    assert np.allclose(back, values, rtol=1e-5, atol=3e-6 * (found.white - found.black))


def test_one_bright_pixel_leaves_the_rest_its_steps():
    found = measure([picture("sun")], 9900)
    assert found.to_unit(np.float32([1.0]))[0] > 0.05
    assert (found.black, found.white) == (0.0, 1.0)


def test_infinite_values_become_the_largest_and_that_is_said():
    values = picture("within")
    values[3, 3] = np.inf
    found = measure([values], 9900)
    assert found == FloatRange(infinite=True)
    assert found.to_unit(values)[3, 3, 0] == 1
    assert "infinite" in str(found)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", RANGES)
def test_values_come_back_through_a_network_that_changes_nothing(tmp_path, kind, channels):
    pixels = picture(kind, channels)
    write(tmp_path / "in.tif", pixels)
    result = enhanced(tmp_path, identity_model(tmp_path / "same.onnx"), settings=Settings(tile=48, overlap=16))
    assert result.dtype == np.float32
    assert np.allclose(result, pixels, rtol=1e-5, atol=3e-6 * min(span(pixels), np.quantile(pixels, 0.99) + 4))


@pytest.mark.parametrize("dtype", [np.float16, ">f4"])
def test_other_forms_of_floats_are_read(tmp_path, dtype):
    pixels = picture("counts", dtype=np.float32) / 2
    keywords = {"byteorder": ">"} if dtype == ">f4" else {}
    write(tmp_path / "in.tif", pixels.astype(dtype), **keywords)
    result = enhanced(tmp_path, identity_model(tmp_path / "same.onnx"))
    assert np.allclose(result, pixels.astype(dtype).astype(np.float32), rtol=1e-5, atol=0.2)


def test_tiled_equals_the_whole_picture(run, tmp_path):
    pixels = picture("counts")
    write(tmp_path / "in.tif", pixels)
    model = conv_model(tmp_path / "two.onnx", 2)
    found = measure([pixels], 9900)
    with Enhancer(model, device="cpu", settings=Settings(tile=256)) as enhancer:
        unit = enhancer.enhance(found.to_unit(pixels))
    image = vips().Image.new_from_memory(unit.tobytes(), 220, 180, 3, "float")
    expected = np.frombuffer(found.from_unit(image).write_to_memory(), np.float32).reshape(180, 220, 3)
    result = enhanced(tmp_path, model, settings=Settings(tile=48, overlap=16))
    assert np.allclose(result, expected, rtol=1e-5, atol=0.2)
    code, _, said = run("enhance", "in.tif", "again.tif", "--model", model, "--device", "cpu")
    assert code == 0
    assert "values from 0 to 65535 go to 0 to 1 for the network, and back" in said


def test_what_is_said_of_a_picture_is_said_once(run, tmp_path):
    write(tmp_path / "in.tif", picture("signed"))
    code, _, said = run("enhance", "in.tif", "out.tif", "--device", "cpu")
    assert code == 0
    assert said.count("go to 0 to 1 for the network") == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scale", [1, 2])
def test_nan_stays_where_it_was_and_reaches_nothing_else(tmp_path, scale, channels):
    pixels = picture("within", channels)
    lost = np.zeros((90, 110), bool)
    lost[40:44, 46:50] = lost[0, 0] = lost[89, 60] = True
    pixels[lost, : 1 if channels == 1 else 3] = np.nan
    write(tmp_path / "in.tif", pixels)
    result = enhanced(tmp_path, identity_model(tmp_path / "same.onnx", scale), settings=Settings(tile=48, overlap=16))
    colours = result[..., :1] if channels == 1 else result[..., :3]
    assert (np.isnan(colours) == repeat(lost[..., None], scale)).all()
    expected = repeat(np.nan_to_num(pixels), scale)[..., : colours.shape[2]]
    seen = ~np.isnan(colours)
    assert abs(colours - expected)[seen].max() <= 1e-6
    if channels == 4:
        assert np.isfinite(result[..., 3]).all()


def test_a_network_sees_the_neighbours_where_there_is_no_number(tmp_path):
    pixels = np.full((60, 70, 3), 0.5, np.float32)
    pixels[30, 30] = np.nan
    write(tmp_path / "in.tif", pixels)
    result = enhanced(tmp_path, conv_model(tmp_path / "one.onnx", 1))
    middle = result[20:40, 20:40][~np.isnan(result[20:40, 20:40]).any(axis=2)]
    assert np.ptp(middle, axis=0).max() <= 1e-6


def test_colours_that_are_multiplied_by_alpha_are_divided(tmp_path):
    pixels = picture("signed", 4)
    multiplied = pixels.copy()
    multiplied[..., :3] *= pixels[..., 3:]
    write(tmp_path / "in.tif", multiplied, extrasamples=["assocalpha"])
    with ImageReader(tmp_path / "in.tif") as reader:
        found = reader.info.float_range
        assert np.allclose(
            reader.read_rows(90), np.dstack([found.to_unit(pixels[..., :3]), pixels[..., 3:]]), atol=1e-5
        )


@pytest.mark.parametrize(("name", "top"), [("out.png", 65_535), ("out.webp", 255)])
def test_integers_are_written_of_what_lies_between_0_and_1(run, tmp_path, name, top):
    pixels = picture("signed")
    write(tmp_path / "in.tif", pixels)
    model = identity_model(tmp_path / "same.onnx")
    code, _, said = run("enhance", "in.tif", name, "--model", model, "--device", "cpu", "--lossless")
    assert code == 0
    assert f"floats become {16 if top > 255 else 8} bits, cut off below 0 and above 1" in said
    with ImageReader(tmp_path / name) as reader:
        values = reader.read_rows(90).astype(np.float64)
    assert abs(values - np.rint(np.clip(pixels, 0, 1) * top)).max() <= 1


def test_a_compressed_one_is_read_by_pillow(run, tmp_path):
    pixels = picture("counts", 1)
    write(tmp_path / "in.tif", pixels)
    assert run("enhance", "in.tif", "out.tif", "--model", identity_model(tmp_path / "same.onnx"))[0] == 0
    with Image.open(tmp_path / "out.tif") as image:
        assert image.mode == "F"
        assert np.allclose(np.asarray(image), pixels[..., 0], rtol=1e-5, atol=0.2)


def test_a_size_of_one_s_own(tmp_path):
    pixels = np.full((90, 110, 3), 700.0, np.float32)
    pixels[:, 60:] = 300.0
    write(tmp_path / "in.tif", pixels)
    result = enhanced(tmp_path, identity_model(tmp_path / "two.onnx", 2), size=TargetSize(width=165))
    assert result.shape == (135, 165, 3)
    assert np.allclose(result[:, :80], 700, rtol=1e-3)
    assert np.allclose(result[:, 100:], 300, rtol=1e-3)


def test_pages_keep_their_own_ranges(run, tmp_path):
    pages = [picture("counts"), picture("within"), picture("signed")]
    tifffile.imwrite(tmp_path / "in.tif", np.stack(pages), photometric="rgb")
    model = identity_model(tmp_path / "same.onnx")
    assert run("enhance", "in.tif", "out.tif", "--model", model, "--device", "cpu")[0] == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert len(file.pages) == 3
        for page, pixels in zip(file.pages, pages, strict=True):
            assert np.allclose(page.asarray(), pixels, rtol=1e-5, atol=3e-6 * span(pixels))


def test_a_job_gives_the_same_file(run, tmp_path):
    write(tmp_path / "in.tif", picture("sun"))
    model = conv_model(tmp_path / "two.onnx", 2)
    alone = enhanced(tmp_path, model)
    code, _, said = run("enhance", "in.tif", "-o", "many", "--model", model, "--device", "cpu", "--job", "work")
    assert code == 0, said
    (made,) = (tmp_path / "many").iterdir()
    with ImageReader(made) as reader, ImageReader(tmp_path / "out.tif") as other:
        assert np.array_equal(reader.read_rows(180), other.read_rows(180))
    assert alone.max() > 100


def test_what_is_no_float_of_16_or_32_bits_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((8, 8), np.float64))
    with pytest.raises(ImageReadError, match="64-bit floats is not supported"):
        ImageReader(tmp_path / "in.tif")
