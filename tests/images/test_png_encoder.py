"""PNGs that are deflated strip by strip, against what libvips writes of the same picture, and what Pillow reads."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sr_tile.errors import ImageWriteError
from sr_tile.images import ImageInfo, ImageReader, ImageWriter, png_encoder
from sr_tile.images.encoder import Encoder
from sr_tile.images.formats import Metadata, WriteOptions
from sr_tile.images.png_chunks import chunks_of
from sr_tile.system import cpu


def picture(height, width, channels, dtype, seed=0):
    """A smooth picture with noise, edges, and flat parts."""
    y, x = np.mgrid[:height, :width]
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max
    planes = [np.sin(x / (9 + c)) + np.cos(y / (7 + c)) + rng.normal(0, 0.05, (height, width)) for c in range(channels)]
    pixels = np.clip((np.stack(planes, -1) + 2) / 4, 0, 1)
    pixels[height // 3 : height // 2] = 0.25
    return np.rint(pixels * top).astype(dtype)


def encoded(tmp_path, pixels, encoder, options=None, metadata=None, steps=(7,)):
    """A file's bytes; rows are pushed by so many at a time, in turn."""
    info = ImageInfo(*pixels.shape, pixels.dtype, metadata or Metadata())
    with (tmp_path / "out.png").open("w+b") as file:
        made = encoder(info, pixels.dtype, options or WriteOptions(), file.fileno())
        row = 0
        while row < len(pixels):
            for step in steps:
                assert made.push(pixels[row : row + step])
                row += step
        assert made.finish(), made.failure
        made.stop()
    return (tmp_path / "out.png").read_bytes()


def by_libvips(info, dtype, options, descriptor):
    return Encoder("png", info, dtype, options, descriptor)


@pytest.mark.parametrize("strip_bytes", [1, 300, 2**19])
@pytest.mark.parametrize("shape", [(1, 1), (50, 1), (1, 37), (61, 47)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_come_back(tmp_path, monkeypatch, shape, channels, dtype, strip_bytes):
    monkeypatch.setattr(png_encoder, "STRIP_BYTES", strip_bytes)
    pixels = picture(*shape, channels, dtype)
    content = encoded(tmp_path, pixels, png_encoder.PngEncoder)
    stream = b"".join(body for kind, body in chunks_of(io.BytesIO(content)) if kind == b"IDAT")
    assert len(zlib.decompress(stream)) == shape[0] * (1 + shape[1] * channels * pixels.itemsize)  # with its Adler-32
    with ImageReader(tmp_path / "out.png") as reader:
        assert (reader.read_rows(shape[0]) == pixels).all()
    if dtype == np.uint8:  # Pillow has no colours of 16 bits
        with Image.open(io.BytesIO(content)) as image:
            assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("level", [0, 1, 2, 4, 9])
def test_every_level_holds_the_same_pixels_and_no_photograph_is_larger_than_by_libvips(tmp_path, level):
    from skimage import data

    pixels, options = data.astronaut(), WriteOptions(png_level=level)
    size = len(encoded(tmp_path, pixels, png_encoder.PngEncoder, options))
    assert (np.asarray(Image.open(tmp_path / "out.png")) == pixels).all()
    assert size <= 1.05 * len(encoded(tmp_path, pixels, by_libvips, options))


def test_a_file_does_not_depend_on_threads_or_on_how_rows_come(tmp_path, monkeypatch):
    monkeypatch.setattr(png_encoder, "STRIP_BYTES", 2000)
    pixels, files = picture(150, 90, 3, np.uint8), set()
    for threads, steps in ((1, (150,)), (8, (1, 40, 3)), (3, (9,))):
        monkeypatch.setattr(png_encoder, "MAX_THREADS", threads)
        monkeypatch.setattr(cpu, "allowed_threads", lambda threads=threads: threads)
        files.add(encoded(tmp_path, pixels, png_encoder.PngEncoder, steps=steps))
    assert len(files) == 1


@pytest.mark.parametrize(("allowed", "threads"), [(1, 1), (16, 16), (64, 16)])
def test_as_many_threads_deflate_as_the_machine_has_up_to_16(tmp_path, monkeypatch, allowed, threads):
    made = []

    class Pool(png_encoder.ThreadPoolExecutor):
        def __init__(self, count, *names):
            made.append(count)
            super().__init__(count, *names)

    monkeypatch.setattr(cpu, "allowed_threads", lambda: allowed)
    monkeypatch.setattr(png_encoder, "ThreadPoolExecutor", Pool)
    encoded(tmp_path, picture(9, 9, 3, np.uint8), png_encoder.PngEncoder)
    assert made == [threads]


EXIF = b"Exif\0\0" + b"II*\0" + struct.pack(
    "<IH HHII HHII I H HHII HHII I", 8, 2, 0x0112, 3, 1, 1, 0x8769, 4, 1, 38, 0, 2, 0xA002, 3, 1, 4, 0xA003, 4, 1, 3, 0
)  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(),
        Metadata(xres=11.8, yres=11.8),
        Metadata(exif=EXIF),
        Metadata(exif=EXIF, xres=2.0, yres=3.0, xmp=b"<x:xmpmeta/>", text=(("Title", "strips"),)),
        Metadata(cicp=(9, 16, 0, 1)),
    ],
)
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint16), (2, np.uint16)])
def test_what_stands_beside_the_pixels_is_what_libvips_writes(tmp_path, metadata, channels, dtype):
    pixels = picture(70, 90, channels, dtype)
    ours, theirs = (
        [
            part
            for part in chunks_of(io.BytesIO(encoded(tmp_path, pixels, made, metadata=metadata)))
            if part[0] != b"IDAT"
        ]
        for made in (png_encoder.PngEncoder, by_libvips)
    )
    assert ours == theirs


def test_a_profile_is_kept(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    info = ImageInfo(9, 8, 3, np.dtype(np.uint8), Metadata(icc=profile))
    with ImageWriter(tmp_path / "out.png", info) as writer:
        writer.write_rows(picture(9, 8, 3, np.uint8))
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == profile


def test_a_thread_that_fails_is_an_error_of_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(png_encoder.ThreadPoolExecutor, "submit", fail)
    info = ImageInfo(3, 3, 3, np.dtype(np.uint8))
    message = r"out\.png: cannot be written: can't start new thread"
    with pytest.raises(ImageWriteError, match=message), ImageWriter(tmp_path / "out.png", info) as writer:
        writer.write_rows(picture(3, 3, 3, np.uint8))
    assert not list(tmp_path.iterdir())
