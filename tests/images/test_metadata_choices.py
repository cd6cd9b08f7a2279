"""What is asked to be left out is not in the file, by Pillow; and alpha on a background, by Pillow's own."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data
from support.image_files import write
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageWriteError
from sr_tile.images import ImageInfo, ImageWriter, Metadata, WriteOptions
from sr_tile.images.xmp import with_history

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="52,30.5N" exif:PixelXDimension="9">'
    b"<exif:GPSLongitude>13,22E</exif:GPSLongitude></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def located():
    """EXIF that says where a picture was taken."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 5.0)
    return exif


def metadata():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return Metadata(icc=profile, exif=located().tobytes(), xmp=XMP, xres=11.8, yres=11.8)


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


@pytest.mark.parametrize("what", [None, "gps", "all"])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.webp"])
def test_of_files_of_several_pictures_too(tmp_path, name, what):
    frames = [Image.fromarray(data.astronaut()[:40, start : start + 50]) for start in (0, 100)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], exif=located().tobytes(), lossless=True)
    with Enhancer(ToyEngine()) as enhancer:
        enhancer.enhance_file(tmp_path / name, tmp_path / f"out-{name}", options=WriteOptions(strip=what))
    with Image.open(tmp_path / f"out-{name}") as image:
        assert image.n_frames == 2
        exif = image.getexif()
        assert (exif.get(0x010F) == "Maker") == (what != "all")
        assert bool(exif.get_ifd(0x8825)) == (what is None)


@pytest.mark.parametrize(("what", "kept"), [(None, {"title", "location"}), ("gps", {"title"}), ("all", set())])
def test_of_films_too(tmp_path, what, kept):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'sr-tile[video]'")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata.update(title="a film", location="+52.5+013.4/")
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 40, 50, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(data.astronaut()[:40, :50])))
        container.mux(stream.encode(None))
    options = WriteOptions(strip=what, history="made larger")
    with Enhancer(ToyEngine()) as enhancer:
        enhancer.enhance_file(tmp_path / "a.mp4", tmp_path / "b.mp4", options=options)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert {name for name in container.metadata if name in ("title", "location")} == kept
        assert container.metadata["comment"] == "made larger"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strip": "exif"}, "strip 'exif' is not known; choose all or gps"),
        ({"background": "white"}, "background 'white' is not .red, green, blue."),
        ({"background": (0, 0, 256)}, "of 0 to 255 each"),
        ({"background": (0, 0)}, "of 0 to 255 each"),
    ],
)
def test_what_is_no_choice_is_refused_at_once(options, words):
    with pytest.raises(ArgumentError, match=words):
        WriteOptions(**options)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize(
    "before", [None, XMP, with_history(XMP, "scanned"), XMP.decode().encode("utf-16"), b"<x:xmpmeta broken"]
)
def test_what_was_done_stands_in_the_history(tmp_path, suffix, before):
    info = ImageInfo(40, 50, 3, np.uint8, Metadata(xmp=before))
    options = WriteOptions(history="model <a&b>, scale 2")
    with ImageWriter(tmp_path / f"a.{suffix}", info, options=options) as writer:
        writer.write_rows(data.astronaut()[:40, :50])
    with Image.open(tmp_path / f"a.{suffix}") as image:
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or image.tag_v2[700]
    if before and before.endswith(b"broken"):
        assert (packet.encode() if isinstance(packet, str) else packet) == before
        return
    events = ElementTree.fromstring(packet).findall(
        ".//{http://ns.adobe.com/xap/1.0/mm/}History/{*}Seq/{*}li/{*}parameters"
    )
    assert [event.text for event in events][-1] == "model <a&b>, scale 2"
    assert len(events) == (2 if before and b"scanned" in before else 1)
    assert (b"GPSLatitude" in (packet.encode() if isinstance(packet, str) else packet)) == bool(before)
