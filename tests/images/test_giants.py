"""Deep Zoom and pyramidal TIFF, read back by Pillow and tifffile."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data
from support.image_files import names, write

from sr_tile.errors import ImageWriteError
from sr_tile.images import ImageInfo, ImageWriter, Metadata


def assembled(path):
    """The largest level of a Deep Zoom, put together by its description."""
    root = ElementTree.parse(path).getroot()
    tile, overlap, suffix = int(root.get("TileSize")), int(root.get("Overlap")), root.get("Format")
    size = next(iter(root))
    height, width = int(size.get("Height")), int(size.get("Width"))
    folder = path.with_name(f"{path.stem}_files") / str(int(np.ceil(np.log2(max(height, width)))))
    whole = np.zeros((height, width, 4 if suffix == "png" else 3), np.uint8)
    for file in folder.iterdir():
        column, row = map(int, file.stem.split("_"))
        x, y = max(0, column * tile - overlap), max(0, row * tile - overlap)
        pixels = np.asarray(Image.open(file))
        whole[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return whole


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_zoom_holds_the_picture(tmp_path, channels):
    image_hwc = np.dstack([data.astronaut(), data.camera()])[..., :channels].repeat(2, 1)
    write(tmp_path / "a.dzi", image_hwc, quality=100)
    found = assembled(tmp_path / "a.dzi")
    np.testing.assert_allclose(found.astype(int), image_hwc, atol=0 if channels == 4 else 12)
    assert names(tmp_path) == ["a.dzi", "a_files"]


def test_deep_zoom_is_whole_or_not_there_and_replaces_what_was_there(tmp_path):
    image_hwc = data.astronaut()[:300, :300]
    writer = ImageWriter(tmp_path / "a.dzi", ImageInfo(*image_hwc.shape, np.uint8))
    writer.write_rows(image_hwc[:100])
    writer.abort()
    assert names(tmp_path) == []
    write(tmp_path / "a.dzi", image_hwc)
    with pytest.raises(ImageWriteError, match="exists"):
        write(tmp_path / "a.dzi", image_hwc)
    with ImageWriter(tmp_path / "a.dzi", ImageInfo(90, 80, 3, np.uint8), overwrite=True) as writer:
        writer.write_rows(image_hwc[:90, :80])
    assert assembled(tmp_path / "a.dzi").shape == (90, 80, 3)
    assert names(tmp_path) == ["a.dzi", "a_files"]
    (tmp_path / "a.dzi").unlink()
    with pytest.raises(ImageWriteError, match="exists"):
        write(tmp_path / "a.dzi", image_hwc)
    assert names(tmp_path) == ["a_files"]


def test_deep_zoom_that_cannot_be_finished_leaves_what_was_there(tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    before = data.astronaut()[:300, :300]
    write(tmp_path / "a.dzi", before, quality=100)
    with monkeypatch.context() as patch:
        patch.setattr("sr_tile.system.atomic_file.AtomicFile.commit", full)
        writer = ImageWriter(tmp_path / "a.dzi", ImageInfo(90, 80, 3, np.uint8), overwrite=True)
        with pytest.raises(ImageWriteError, match="No space left"), writer:
            writer.write_rows(before[:90, :80])
    np.testing.assert_allclose(assembled(tmp_path / "a.dzi").astype(int), before, atol=12)
    assert names(tmp_path) == ["a.dzi", "a_files"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_pyramid_holds_the_picture_its_copies_and_its_exif(tmp_path, dtype):
    image_hwc = data.astronaut().repeat(2, 0).repeat(2, 1).astype(dtype) * (257 if dtype == np.uint16 else 1)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    write(tmp_path / "a.tif", image_hwc, pyramid=True, metadata=Metadata(exif=exif.tobytes()))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [page.shape[:2] for page in file.pages] == [(1024, 1024), (512, 512), (256, 256)]
        np.testing.assert_array_equal(file.pages[0].asarray(), image_hwc)
        assert all(page.is_tiled for page in file.pages)
        assert file.pages[0].tags["Make"].value == "Maker"
