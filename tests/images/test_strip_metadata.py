"""What is asked to be left out is not in the file, by Pillow; and alpha on a background, by Pillow's own."""

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data
from support.image_files import write

from sr_tile.errors import ImageWriteError
from sr_tile.images import ImageInfo, ImageWriter, Metadata, WriteOptions

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="52,30.5N" exif:PixelXDimension="9">'
    b"<exif:GPSLongitude>13,22E</exif:GPSLongitude></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def metadata():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 5.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return Metadata(icc=profile, exif=exif.tobytes(), xmp=XMP, xres=11.8, yres=11.8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_metadata_is_left_out_as_asked(tmp_path, suffix):
    for what in (None, "gps", "all"):
        info = ImageInfo(40, 50, 3, np.uint8, metadata())
        with ImageWriter(tmp_path / f"{what}.{suffix}", info, options=WriteOptions(strip=what)) as writer:
            writer.write_rows(data.astronaut()[:40, :50])
        content = (tmp_path / f"{what}.{suffix}").read_bytes()
        with Image.open(tmp_path / f"{what}.{suffix}") as image:
            exif = image.getexif()
            content += str(image.info.get("XML:com.adobe.xmp", "")).encode()  # which PNG compresses
            assert image.info.get("icc_profile")
            assert (exif.get(0x010F) == "Maker") == (what != "all")
            assert bool(exif.get_ifd(0x8825)) == (what is None)
        assert (b"52,30.5N" in content) == (b"13,22E" in content) == (what is None)
        assert (b"PixelXDimension" in content) == (what != "all")


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_lies_on_the_background_in_jpeg(tmp_path, channels):
    image_hwc = np.dstack([data.astronaut(), data.camera()])[:96, :96, [0, 3] if channels == 2 else [0, 1, 2, 3]]
    with pytest.raises(ImageWriteError, match="--background"):
        write(tmp_path / "a.jpg", image_hwc)
    write(tmp_path / "a.jpg", image_hwc, background=(255, 136, 0), quality=100)
    picture = Image.fromarray(image_hwc, "LA" if channels == 2 else "RGBA").convert("RGBA")
    ground = (130, 130, 130, 255) if channels == 2 else (255, 136, 0, 255)
    expected = Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture).convert("RGB")
    with Image.open(tmp_path / "a.jpg") as found:
        np.testing.assert_allclose(np.asarray(found.convert("RGB")).astype(int), np.asarray(expected), atol=9)
