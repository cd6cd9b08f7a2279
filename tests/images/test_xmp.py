"""XMP tells what the result is, and stays as it was else."""

import hashlib
import struct
from xml.etree import ElementTree

import pytest
from support.image_files import SUFFIXES, photograph, read, write
from support.metadata import RDF, chunks, packet, said, segments, xmp_of

from sr_tile.images import Metadata


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


def test_extended_xmp_has_no_wrapper(tmp_path):
    """XMP specification, part 3, 1.1.3.1: a packet's wrapper is for the main one only."""
    wrapped = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>' + packet("x" * 70_000) + b'<?xpacket end="w"?>'
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(xmp=wrapped))
    assert b"xpacket" not in b"".join(
        body for marker, body in segments(tmp_path / "a.jpg") if b"extension" in body[:40]
    )
    assert b"x" * 70_000 in read(tmp_path / "a.jpg")[1].metadata.xmp
