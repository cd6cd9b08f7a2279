"""What is taken out of a result's metadata where that is asked for."""

import re
from dataclasses import replace

from sr_tile.images.formats import Metadata

CHOICES = ("all", "gps")
_GPS_IFD = 0x8825
_XMP_GPS = re.compile(rb'\s+exif:GPS\w+\s*=\s*("[^"]*"|\'[^\']*\')|<exif:GPS\w+>.*?</exif:GPS\w+>', re.DOTALL)


def strip(metadata: Metadata, what: str) -> Metadata:
    """Metadata without a part of it.

    Args:
        metadata: of a picture.
        what: `all`, which leaves what the colours and the size on paper mean; or `gps`, where the picture was taken.
    """
    if what == "all":
        return Metadata(
            icc=metadata.icc, xres=metadata.xres, yres=metadata.yres, cicp=metadata.cicp, png_colour=metadata.png_colour
        )
    return replace(metadata, exif=_without_place(metadata.exif), xmp=metadata.xmp and _XMP_GPS.sub(b"", metadata.xmp))


def _without_place(exif: bytes | None) -> bytes | None:
    if exif is None:
        return None
    from PIL import Image

    fields = Image.Exif()
    try:
        fields.load(exif)
        fields.get_ifd(_GPS_IFD)
        if _GPS_IFD not in fields:
            return exif
        del fields[_GPS_IFD]
        return fields.tobytes()
    except Exception:  # Pillow raises whatever damaged EXIF leads it to; what cannot be understood may hold the place
        return None
