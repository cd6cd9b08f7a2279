"""Multi-page TIFF, against tifffile."""

import numpy as np
import pytest
import tifffile
from support.image_files import names
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageReadError
from sr_tile.images.formats import ImageInfo, WriteOptions
from sr_tile.images.frames import open_frames as frame_files
from sr_tile.images.frames.apng import ApngWriter
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.frames.frame import Frame, Time
from sr_tile.images.frames.tiff_pages import TiffPagesWriter
from sr_tile.models.spec import ModelSpec


def pages(count):
    """Of all sizes, depths and channels."""
    rng = np.random.default_rng(count)
    kinds = [((40, 30, 3), np.uint8), ((31, 47), np.uint16), ((9, 200, 3), np.uint16), ((150, 20), np.uint8)]
    for index in range(count):
        shape, dtype = kinds[index % 4]
        yield rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def write(path, arrays, **keywords):
    with tifffile.TiffWriter(path, **keywords) as writer:
        for index, array in enumerate(arrays):
            photometric = "rgb" if array.ndim == 3 else "minisblack"
            density = {"resolution": (100 + index, 200), "resolutionunit": "INCH"}
            writer.write(array, photometric=photometric, metadata=None, software=f"page {index}", **density)


def enhance(source, target, scale=2, **keywords):
    with Enhancer(ToyEngine(ModelSpec("toy", scale, 1))) as enhancer:
        enhancer.enhance_file(source, target, **keywords)


@pytest.mark.parametrize("big", [False, True])
def test_each_page_keeps_its_size_depth_and_metadata(tmp_path, monkeypatch, big):
    if big:
        monkeypatch.setattr(frame_files, "_BIG", 0)
    before = list(pages(9))
    write(tmp_path / "a.tif", before, bigtiff=big, byteorder=">" if big else "<")
    enhance(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.is_bigtiff == big
        assert len(file.pages) == len(before)
        for index, (page, array) in enumerate(zip(file.pages, before, strict=True)):
            np.testing.assert_array_equal(page.asarray(), array.repeat(2, 0).repeat(2, 1))
            assert page.software == f"page {index}"
            assert page.get_resolution(unit="INCH") == pytest.approx(
                (200 + 2 * index, 400), rel=2e-5
            )  # a rational of float32


def test_chosen_pages_in_the_order_of_the_file(tmp_path):
    before = list(pages(8))
    write(tmp_path / "a.tif", before)
    enhance(tmp_path / "a.tif", tmp_path / "b.tif", scale=1, excerpt=Excerpt("7-8,2"))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for page, array in zip(file.pages, (before[1], before[6], before[7]), strict=True):
            np.testing.assert_array_equal(page.asarray(), array)


def test_one_page_into_any_format(tmp_path):
    before = list(pages(3))
    write(tmp_path / "a.tif", before)
    enhance(tmp_path / "a.tif", tmp_path / "b.png", scale=1, excerpt=Excerpt("2"))
    enhance(tmp_path / "b.png", tmp_path / "c.tif", scale=1)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif").squeeze(), before[1])


def test_of_a_hundred_pages_the_broken_one_is_named_and_the_others_are_written(tmp_path):
    before = list(pages(100))
    write(tmp_path / "a.tif", before)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[41].tags["StripOffsets"].valueoffset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[offset : offset + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageReadError, match=r"a\.tif, page 42: .*; the other 99 pages were written"):
        enhance(tmp_path / "a.tif", tmp_path / "b.tif", scale=1)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for page, array in zip(file.pages, before[:41] + before[42:], strict=True):
            np.testing.assert_array_equal(page.asarray(), array)
    assert names(tmp_path) == ["a.tif", "b.tif"]


def test_a_file_without_a_readable_page_leaves_nothing(tmp_path):
    write(tmp_path / "a.tif", list(pages(3)))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets = [page.tags["StripOffsets"].valueoffset for page in file.pages]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for offset in offsets:
        data[offset : offset + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        enhance(tmp_path / "a.tif", tmp_path / "b.tif")
    assert names(tmp_path) == ["a.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_file_given_up_writes_into_no_other(tmp_path, suffix):
    """Its buffer is written when it is collected, while the number of its descriptor belongs to another file."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        writer = TiffPagesWriter(path, WriteOptions(), overwrite=False, big=False)
    else:
        writer = ApngWriter(path, 0, WriteOptions(), overwrite=False)
        info = ImageInfo(3, 4, 3, np.dtype(np.uint8))
        sink = writer.open_frame(Frame(0, "frame 1", lambda: None, (Time(),)), info)
        sink.write_rows(np.ones((3, 4, 3), np.uint8))
        sink.close()
    number = writer._file.descriptor
    writer.abort()
    with (tmp_path / "other").open("wb") as other:
        assert other.fileno() == number
        writer._out.close()
    assert (tmp_path / "other").read_bytes() == b""
    assert names(tmp_path) == ["other"]
