"""What users want left out of a result's metadata, or written into it."""

import re
from collections.abc import Mapping
from dataclasses import replace

from sr_tile.images.formats import ImageInfo, Metadata, WriteOptions
from sr_tile.images.xmp import with_history

_GPS_IFD = 0x8825
_FILM_PLACE = re.compile("location|gps|xyz", re.IGNORECASE)
_XMP_GPS = re.compile(rb'\s+exif:GPS\w+\s*=\s*("[^"]*"|\'[^\']*\')|<exif:GPS\w+>.*?</exif:GPS\w+>', re.DOTALL)


def as_chosen(info: ImageInfo, options: WriteOptions) -> ImageInfo:
    """A picture's facts with the metadata that the options leave of them, and what they add."""
    metadata = _without(info.metadata, options.strip)
    if options.history:
        metadata = replace(metadata, xmp=with_history(metadata.xmp, options.history))
    return replace(info, metadata=metadata)


def of_film(tags: Mapping[str, str], options: WriteOptions) -> dict[str, str]:
    """A container's tags, as `as_chosen` does it for pictures; what was done is a line of its comment."""
    wanted = {} if options.strip == "all" else tags
    kept = {name: text for name, text in wanted.items() if not options.strip or not _FILM_PLACE.search(name)}
    if options.history:
        kept["comment"] = "\n".join([*filter(None, [kept.get("comment")]), options.history])
    return kept


def _without(metadata: Metadata, what: str | None) -> Metadata:
    """What is left: of `all` what the colours and the size on paper mean; of `gps` all but where it was taken."""
    if what is None:
        return metadata
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
