"""What a file says beside its pixels and what libvips does not write is kept, or said to be lost; Pillow reads it back."""

import functools
import hashlib
import io
import struct
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin
from support.image_files import SUFFIXES, exif_block, noise, photograph, read, write

from sr_tile.images import ImageInfo, Metadata, WriteOptions
from sr_tile.images.frames.apng import ApngWriter, AvifAnimationWriter
from sr_tile.images.frames.frame import Frame, Time
from sr_tile.images.png_chunks import chunk, read_png

PQ, SRGB = (9, 16, 0, 1), (1, 13, 6, 1)
SRGB_CHROMATICITIES = struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def packet(inner="", attributes=""):
    begin = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""'
    spaces = ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    return f"{begin}{spaces} {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>".encode()


def chunks(path):
    data, position, found = path.read_bytes(), 8, []
    while position < len(data):
        (size,) = struct.unpack_from(">I", data, position)
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + size]))
        position += 12 + size
    return found


def segments(path):
    """(marker, body) of a JPEG up to its pixels."""
    data, position, found = path.read_bytes(), 2, []
    while data[position + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, position + 2)
        found.append((data[position + 1], data[position + 4 : position + 2 + size]))
        position += 2 + size
    return found


def xmp_of(path):
    with Image.open(path) as image:
        return image.info.get("xmp") and image.info["xmp"].rstrip(b"\0")


def said(caplog):
    return [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]


def through(tmp_path, source, target):
    """The metadata of a file into another, as `enhance` hands them on; the pixels as well."""
    image_hwc, info = read(source)
    write(tmp_path / target, image_hwc, metadata=info.metadata)
    return tmp_path / target


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_xmp_describes_the_result(tmp_path, target):
    """Programs that trust the orientation in XMP would turn the picture again."""
    xmp = packet(
        "<exif:PixelYDimension>7</exif:PixelYDimension><tiff:Orientation>6</tiff:Orientation>Grüße",
        "tiff:ImageWidth='9' tiff:ImageLength = \"9\"",
    )
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(xmp=xmp))
    expected = packet(
        "<exif:PixelYDimension>200</exif:PixelYDimension><tiff:Orientation>1</tiff:Orientation>Grüße",
        "tiff:ImageWidth='300' tiff:ImageLength = \"200\"",
    )
    assert xmp_of(tmp_path / f"a{SUFFIXES[target]}") == expected


TIFF_SPACE = "http://ns.adobe.com/tiff/1.0/"
OTHER_WORDS = {
    "another prefix": ('xmlns:ns1="{}" ns1:Orientation="6" ns1:ImageWidth="7"', ""),
    "another prefix, elements": ('xmlns:t="{}"', "<t:Orientation> 6 </t:Orientation><t:ImageWidth>7</t:ImageWidth>"),
    "two prefixes": ("xmlns:t=\"{0}\" xmlns:u='{0}' u:ImageWidth='7'", "<t:Orientation>6</t:Orientation>"),
    "no prefix": ("", '<Orientation xmlns="{0}">6</Orientation><ImageWidth xmlns="{0}">7</ImageWidth>'),
    "a prefix with dots": ('xmlns:a.b-c="{}" a.b-c:Orientation="6" a.b-c:ImageWidth="7"', ""),
    "spaces": ('xmlns:tiff = "{}" tiff:Orientation\n=\n"6" tiff:ImageWidth ="7"', ""),
}  # fmt: skip


def values(xmp, space, name):
    """Of a property, by Python's parser, which knows all about names and codes."""
    root = ElementTree.fromstring(xmp.rstrip(b"\0"))
    inside = [each.text.strip() for each in root.iter(f"{{{space}}}{name}")]
    return inside + [each.attrib[f"{{{space}}}{name}"] for each in root.iter() if f"{{{space}}}{name}" in each.attrib]


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", list(OTHER_WORDS))
def test_xmp_describes_the_result_in_whatever_words(tmp_path, name, codec):
    attributes, inner = (words.format(TIFF_SPACE) for words in OTHER_WORDS[name])
    bare = f'<r:RDF xmlns:r="{RDF}"><r:Description {attributes}>{inner}<x xmlns="y">Grüße</x></r:Description></r:RDF>'
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(xmp=bare.encode(codec)))
    xmp = xmp_of(tmp_path / "a.jpg")
    assert values(xmp, TIFF_SPACE, "Orientation") == ["1"]
    assert values(xmp, TIFF_SPACE, "ImageWidth") == ["300"]
    assert values(xmp, "y", "x") == ["Grüße"]


def test_properties_of_other_spaces_stay_as_they_are(tmp_path):
    xmp = f'<r:RDF xmlns:r="{RDF}"><r:Description xmlns:tiff="http://example.org/" tiff:Orientation="6"/></r:RDF>'.encode()
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(xmp=xmp))
    assert xmp_of(tmp_path / "a.jpg") == xmp


def test_xmp_in_a_png_is_utf8_as_its_specification_wants(tmp_path):
    write(tmp_path / "a.png", photograph(), metadata=Metadata(xmp=packet("Grüße, 雪")))
    bodies = [body for kind, body in chunks(tmp_path / "a.png") if kind == b"iTXt"]
    assert bodies == [b"XML:com.adobe.xmp\0\0\0\0\0" + packet("Grüße, 雪")]


TEXTS = [
    (("parameters", "a boat, steps: 20, seed: 7"),),
    (("Title", "Grüße"), ("Comment", "雪が降る"), ("Title", "twice")),
    (("Comment", "x" * 200_000),),
    (("workflow", "{\"a\": [1, 2]}\n" * 9_000), ("Software", "")),
]  # fmt: skip


@pytest.mark.parametrize("texts", TEXTS)
def test_text_of_a_png_is_kept_by_a_png(tmp_path, texts, caplog):
    wanted = PngImagePlugin.PngInfo()
    for number, (keyword, text) in enumerate(texts):
        latin = all(ord(letter) < 256 for letter in text)
        (wanted.add_text if latin else wanted.add_itxt)(keyword, text, zip=number % 2 == 0)
    Image.fromarray(photograph()).save(tmp_path / "a.png", pnginfo=wanted)
    after = through(tmp_path, tmp_path / "a.png", "b.png")
    with Image.open(after) as image:
        image.load()
        assert {key: str(text) for key, text in image.text.items()} == dict(texts)
    assert tuple(read(after)[1].metadata.text) == texts
    np.testing.assert_array_equal(np.asarray(Image.open(after)), photograph())
    assert said(caplog) == []


@pytest.mark.parametrize("texts", TEXTS)
def test_text_becomes_comments_of_a_jpeg(tmp_path, texts, caplog):
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(text=texts))
    comments = b"".join(body for marker, body in segments(tmp_path / "a.jpg") if marker == 0xFE).decode()
    assert comments == "".join(text if keyword == "Comment" else f"{keyword}: {text}" for keyword, text in texts)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (300, 200)
        image.load()
    assert said(caplog) == []


@pytest.mark.parametrize("target", ["png", "jpeg"])
def test_the_comment_of_a_jpeg_is_kept(tmp_path, target):
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", comment="hello, Grüße".encode())
    with Image.open(through(tmp_path, tmp_path / "a.jpg", f"b{SUFFIXES[target]}")) as image:
        image.load()
        kept = image.info["comment"].decode() if target == "jpeg" else image.text["Comment"]
    assert kept == "hello, Grüße"


@pytest.mark.parametrize("target", ["tiff", "webp", "avif"])
def test_text_that_a_format_cannot_hold_is_said(tmp_path, target, caplog):
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(text=(("parameters", "x"),)))
    assert len(said(caplog)) == 1
    assert "parameters" in said(caplog)[0]


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_exif_in_the_raw_profile_of_a_png_is_kept(tmp_path, prefix, name):
    if name == "APP1" and not prefix:
        prefix = b"Exif\0\0"
    block = prefix + exif_block().removeprefix(b"Exif\0\0")
    raw = PngImagePlugin.PngInfo()
    raw.add_text(f"Raw profile type {name}", f"\n{name}\n{len(block):8d}\n{block.hex()}\n", zip=True)
    Image.fromarray(photograph()).save(tmp_path / "a.png", pnginfo=raw)
    with Image.open(through(tmp_path, tmp_path / "a.png", "b.png")) as image:
        assert image.getexif()[0x010F] == "Maker"


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


@pytest.mark.parametrize("target", [*SUFFIXES, "gif"])
@pytest.mark.parametrize("exif", [False, True])
def test_no_density_is_invented(tmp_path, target, exif):
    block = Image.Exif()
    block[0x0110] = "Model X"
    path = tmp_path / f"a{ {**SUFFIXES, 'gif': '.gif'}[target] }"
    write(path, photograph(), metadata=Metadata(exif=block.tobytes() if exif else None))
    with Image.open(path) as image:
        image.load()
        # Pillow invents 1 for TIFF, and 72 where EXIF stands beside a JFIF header without a unit.
        assert "dpi" not in image.info or target in ("tiff", "jpeg")
        found = image.getexif()
        if exif and target != "gif":
            assert found[0x0110] == "Model X"
        if target == "tiff":
            assert [image.tag_v2.get(tag) for tag in (282, 283, 296)] == [1, 1, 1]
        elif 0x011A in found:
            assert [found[tag] for tag in (0x011A, 0x011B, 0x0128)] == [1, 1, 1]
        if target == "jpeg":
            assert image.info.get("jfif_unit", 0) == 0
    metadata = read(path)[1].metadata if target != "gif" else Metadata()
    assert (metadata.xres, metadata.yres) == (None, None)


@pytest.mark.parametrize("target", ["png", "avif"])
@pytest.mark.parametrize("cicp", [PQ, (9, 18, 0, 1), (12, 13, 0, 1), (12, 16, 0, 1), (1, 8, 0, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hdr_and_wide_colours_are_kept(tmp_path, cicp, target, dtype, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(3, dtype), metadata=Metadata(cicp=cicp))
    data = path.read_bytes()
    if target == "png":
        assert (b"cICP", bytes([*cicp[:2], 0, 1])) in chunks(path)
    else:
        assert struct.pack(">4sHH", b"nclx", *cicp[:2]) in data
        write(tmp_path / "plain.avif", photograph(3, dtype))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "plain.avif")))
        np.testing.assert_array_equal(read(path)[0], read(tmp_path / "plain.avif")[0])
    assert read(path)[1].metadata.cicp[:2] == cicp[:2]
    assert said(caplog) == []


@pytest.mark.parametrize("target", ["jpeg", "tiff", "webp"])
def test_hdr_that_a_format_cannot_say_is_said(tmp_path, target, caplog):
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(cicp=PQ))
    assert len(said(caplog)) == 1
    assert "HDR" in said(caplog)[0]


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_colours_that_all_take_for_granted_need_no_word(tmp_path, target, caplog):
    same = ((b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", SRGB_CHROMATICITIES))
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(cicp=SRGB, png_colour=same))
    write(tmp_path / f"b{SUFFIXES[target]}", photograph(), metadata=Metadata(png_colour=((b"sRGB", b"\0"),)))
    assert said(caplog) == []


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_gamma_is_kept_or_said(tmp_path, target, caplog):
    colour = ((b"gAMA", struct.pack(">I", 100_000)), (b"cHRM", SRGB_CHROMATICITIES))
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(), metadata=Metadata(png_colour=colour))
    if target == "png":
        with Image.open(path) as image:
            assert image.info["gamma"] == 1.0
        assert read(path)[1].metadata.png_colour == colour
        assert said(caplog) == []
    else:
        assert len(said(caplog)) == 1


@pytest.mark.parametrize("profile", [False, True])
def test_the_display_of_hdr_is_kept_in_a_png(tmp_path, profile):
    """Mastering display and light levels, beside a profile too."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if profile else None
    colour = ((b"mDCV", bytes(range(24))), (b"cLLI", bytes(range(8))))
    write(tmp_path / "a.png", photograph(), metadata=Metadata(icc, cicp=PQ, png_colour=colour))
    kinds = [kind for kind, _ in chunks(tmp_path / "a.png")]
    for each in colour:
        assert each in chunks(tmp_path / "a.png")
        assert kinds.index(each[0]) < kinds.index(b"IDAT")
    assert read(tmp_path / "a.png")[1].metadata.png_colour == colour


def test_a_profile_wins_over_gamma(tmp_path, caplog):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(tmp_path / "a.png", photograph(), metadata=Metadata(icc, png_colour=((b"gAMA", struct.pack(">I", 100_000)),)))
    kinds = [kind for kind, _ in chunks(tmp_path / "a.png")]
    assert b"gAMA" not in kinds
    assert b"iCCP" in kinds
    assert said(caplog) == []


@functools.cache  # a profile holds the second it was made in
def gray_profile():
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    icc[16:20] = b"GRAY"
    return bytes(icc)


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_a_gray_profile_is_kept_or_said(tmp_path, target, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(1), metadata=Metadata(icc=gray_profile()))
    with Image.open(path) as image:
        kept = image.info.get("icc_profile")
    assert (kept == gray_profile()) == (target in ("png", "jpeg", "tiff"))
    assert [("GRAY profile" in line) for line in said(caplog)] == ([] if kept else [True])


def large_exif(size):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(256)) * (size // 256)
    return exif.tobytes()


@pytest.mark.parametrize("target", list(SUFFIXES))
@pytest.mark.parametrize("size", [30_720, 62_976, 80_128, 400_128])
def test_large_exif_is_kept_or_said(tmp_path, target, size, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(), metadata=Metadata(exif=large_exif(size)))
    with Image.open(path) as image:
        note, made = image.getexif().get_ifd(0x8769).get(0x927C, b""), image.getexif().get(0x010F)
    kept = bytes(note) == bytes(range(256)) * (size // 256)
    assert kept or [f"{target.upper()}" in line and "EXIF" in line for line in said(caplog)] == [True]
    assert kept or size > 65_000
    assert made == "Maker"
    assert not (kept and said(caplog))


@pytest.mark.parametrize("target", list(SUFFIXES))
@pytest.mark.parametrize("size", [1_000, 59_000, 64_000, 66_000, 400_000])
def test_large_xmp_is_kept(tmp_path, target, size, caplog):
    xmp = packet("é" * (size // 2))
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(), metadata=Metadata(xmp=xmp))
    if target != "jpeg" or size < 65_000:
        assert xmp_of(path) == xmp
    else:
        prefix = b"http://ns.adobe.com/xmp/extension/\0"
        parts = [body[len(prefix) :] for marker, body in segments(path) if marker == 0xE1 and body.startswith(prefix)]
        whole = b"".join(part[40:] for _, part in sorted((struct.unpack(">I", part[36:40]), part) for part in parts))
        guid = hashlib.md5(whole).hexdigest().upper().encode()
        assert whole == xmp
        assert {part[:32] for part in parts} == {guid}
        assert guid in xmp_of(path)
    again = read(path)[1].metadata.xmp
    assert again is not None
    assert "é".encode() * (size // 2) in again
    assert said(caplog) == []


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("options", [{}, {"lossless": True}])
@pytest.mark.parametrize("icc", [False, True])
def test_hdr_of_an_avif_in_every_layout(tmp_path, alpha, options, icc):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if icc else None
    metadata = Metadata(profile, exif_block(), packet(), cicp=PQ)
    pixels_hwc = photograph(4 if alpha else 3)
    write(tmp_path / "a.avif", pixels_hwc, metadata=metadata, **options)
    write(tmp_path / "b.avif", pixels_hwc, metadata=Metadata(*(metadata.icc, metadata.exif, metadata.xmp)), **options)
    one, other = read(tmp_path / "a.avif"), read(tmp_path / "b.avif")
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1].metadata.cicp[:2] == PQ[:2]
    assert (one[1].metadata.exif, one[1].metadata.icc) == (other[1].metadata.exif, other[1].metadata.icc)
    with Image.open(tmp_path / "a.avif") as image, Image.open(tmp_path / "b.avif") as plain:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(plain))
        assert image.info["xmp"] == packet()


def test_extended_xmp_has_no_wrapper(tmp_path):
    """XMP specification, part 3, 1.1.3.1: a packet's wrapper is for the main one only."""
    wrapped = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>' + packet("x" * 70_000) + b'<?xpacket end="w"?>'
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(xmp=wrapped))
    assert b"xpacket" not in b"".join(
        body for marker, body in segments(tmp_path / "a.jpg") if b"extension" in body[:40]
    )
    assert b"x" * 70_000 in read(tmp_path / "a.jpg")[1].metadata.xmp


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


def test_damaged_text_of_a_png_is_left_out(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "png")
    data = buffer.getvalue()
    odd = [chunk(b"zTXt", b"a\0\0nonsense"), chunk(b"iTXt", b"b"), chunk(b"tEXt", b"good\0yes"), chunk(b"gAMA", b"1")]
    (tmp_path / "a.png").write_bytes(data[:33] + b"".join(odd) + data[33:])
    header = read_png(tmp_path / "a.png")
    assert (header.text, header.colour) == ([("good", "yes")], ())


@pytest.mark.parametrize(("unit", "per_mm"), [(1, 1 / 25.4), (2, 0.1)])
@pytest.mark.parametrize("exif", [None, "of a camera", "with a density"])
def test_the_density_of_a_jpeg_is_that_of_exif_or_else_of_jfif(tmp_path, unit, per_mm, exif):
    """libexif makes up 72 dpi for an EXIF without, which libvips takes."""
    block = Image.Exif()
    block[0x010F] = "Maker"
    if exif == "with a density":
        block[0x011A], block[0x011B], block[0x0128] = 240.0, 240.0, 2
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", dpi=(300, 150), **({"exif": block} if exif else {}))
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"JFIF") + 7
    data[at : at + 5] = struct.pack(">BHH", unit, 300, 150)
    (tmp_path / "a.jpg").write_bytes(data)
    metadata = read(tmp_path / "a.jpg")[1].metadata
    expected = (240 / 25.4, 240 / 25.4) if exif == "with a density" else (300 * per_mm, 150 * per_mm)
    assert (metadata.xres, metadata.yres) == pytest.approx(expected)


def test_of_exif_that_is_too_large_only_the_largest_values_are_dropped(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Camera 1"
    exif.get_ifd(0x8769)[0x927C], exif.get_ifd(0x8769)[0x9286] = b"n" * 60_000, b"ASCII\0\0\0" + b"c" * 30_000
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(exif=exif.tobytes()))
    with Image.open(tmp_path / "a.jpg") as image:
        kept = image.getexif()
    assert (kept.get(0x010F), kept.get(0x0110)) == ("Maker", "Camera 1")
    assert bytes(kept.get_ifd(0x8769)[0x9286]).endswith(b"c" * 30_000)
    assert 0x927C not in kept.get_ifd(0x8769)
    assert len(said(caplog)) == 1
