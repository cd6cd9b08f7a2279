"""What files say beside their pixels, read without sr-tile."""

import functools
import struct

from PIL import Image, ImageCms
from support.image_files import read, write

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


@functools.cache  # a profile holds the second it was made in
def gray_profile():
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    icc[16:20] = b"GRAY"
    return bytes(icc)


def large_exif(size):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(256)) * (size // 256)
    return exif.tobytes()
