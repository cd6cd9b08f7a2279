"""What a file says beside its pixels and what libvips does not write is kept, or said to be lost; Pillow reads it back."""

import struct
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.image_files import SUFFIXES, exif_block, noise, photograph, read, write
from support.metadata import PQ, chunks, packet, said, through

from sr_tile.images import ImageInfo, Metadata, WriteOptions
from sr_tile.images.frames.apng import ApngWriter, AvifAnimationWriter
from sr_tile.images.frames.frame import Frame, Time
from sr_tile.images.png_chunks import chunk


@pytest.mark.parametrize("moved", [b"eXIf", b"iTXt", b"tEXt"])
def test_what_stands_behind_the_pixels_of_a_png_is_kept(tmp_path, moved):
    write(tmp_path / "a.png", photograph(), metadata=Metadata(exif=exif_block(), xmp=packet(), text=(("a", "b"),)))
    parts = chunks(tmp_path / "a.png")
    parts = (
        [part for part in parts[:-1] if part[0] != moved] + [part for part in parts if part[0] == moved] + parts[-1:]
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    metadata = read(through(tmp_path, tmp_path / "a.png", "b.png"))[1].metadata
    assert metadata.exif is not None
    assert (metadata.xmp, metadata.text) == (packet(), (("a", "b"),))


@pytest.mark.parametrize(("suffix", "lost"), [(".png", 0), (".avif", 2)])
def test_an_animation_keeps_or_says_as_well(tmp_path, suffix, lost, caplog):
    metadata = Metadata(exif=exif_block(), xmp=packet("Grüße"), cicp=PQ, text=(("a", "b"),))
    info = ImageInfo(200, 300, 3, np.dtype(np.uint8), metadata)
    writer = (ApngWriter if suffix == ".png" else AvifAnimationWriter)(
        tmp_path / f"a{suffix}", 0, WriteOptions(), overwrite=False
    )
    for index in range(3):
        sink = writer.open_frame(Frame(index, "frame", lambda: None, (Time(duration=Fraction(1, 10)),)), info)
        sink.write_rows(photograph() // (index + 1))
        sink.close()
    writer.close()
    assert len(said(caplog)) == lost
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.n_frames == 3
        assert image.info["xmp"] == packet("Grüße").replace(b"99999", b"300")
        assert image.getexif()[0x010F] == "Maker"


def test_a_gif_says_what_it_leaves_out(tmp_path, caplog):
    write(tmp_path / "a.gif", photograph(), metadata=Metadata(exif=exif_block(), xmp=packet()))
    assert [("EXIF and XMP" in line) for line in said(caplog)] == [True]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_stay_with_all_of_it_in_the_file(tmp_path, channels, dtype):
    everything = Metadata(
        exif=exif_block(), xmp=packet("y" * 90_000), cicp=PQ, png_colour=((b"gAMA", struct.pack(">I", 100_000)),),
        text=(("Comment", "z" * 100_000), ("a", "雪")),
    )  # fmt: skip
    pixels_hwc = noise(40, 56, channels, dtype)
    for target in ("png", "tiff"):
        write(tmp_path / f"a{SUFFIXES[target]}", pixels_hwc, 7, everything)
        np.testing.assert_array_equal(read(tmp_path / f"a{SUFFIXES[target]}", 9)[0], pixels_hwc)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").reshape(pixels_hwc.shape), pixels_hwc)
    if channels in (1, 3):
        write(tmp_path / "a.jpg", photograph(channels), 7, everything)
        write(tmp_path / "b.jpg", photograph(channels), 7)
        one, other = (Image.open(tmp_path / name) for name in ("a.jpg", "b.jpg"))
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
