"""AVIFs of several coded pictures side by side, built box by box (ISO/IEC 23008-12, 6.6.2.3)."""

import io
import struct

import numpy as np
from PIL import Image

COLOUR_TYPE = b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)
ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind, version_and_flags, *parts):
    return box(kind, struct.pack(">I", version_and_flags), *parts)


def content(data, *path):
    """Of the box at the end of a path."""
    for kind in path:
        position = 0
        while data[position + 4 : position + 8] != kind:
            position += struct.unpack_from(">I", data, position)[0]
        data = data[position + 8 : position + struct.unpack_from(">I", data, position)[0]]
        data = data[4:] if kind == b"meta" else data
    return data


def coded(pixels):
    """An image as the codec's bytes, and its configuration."""
    file = io.BytesIO()
    subsampling = "4:4:4" if pixels.ndim == 3 else "4:0:0"
    Image.fromarray(pixels).save(file, "AVIF", quality=90, subsampling=subsampling)
    data = file.getvalue()
    return content(data, b"mdat"), content(data, b"meta", b"iprp", b"ipco", b"av1C")


def grid(tiles, configuration, size, columns, *, alpha=None):
    """A file whose picture is a grid of coded tiles.

    Args:
        tiles: bytes of the codec, in reading order.
        configuration: of the codec.
        size: (height, width) of each tile.
        columns: of the grid.
        alpha: (tiles, configuration) of its alpha, the same grid.
    """
    (height, width), rows = size, len(tiles) // columns
    whole = struct.pack(">II", width * columns, height * rows)
    sides = bytes([0, 0, rows - 1, columns - 1]) + struct.pack(">HH", width * columns, height * rows)
    properties = [
        full_box(b"ispe", 0, whole), full_box(b"pixi", 0, b"\3\x08\x08\x08"), box(b"av1C", configuration),
        box(b"colr", COLOUR_TYPE), full_box(b"ispe", 0, struct.pack(">II", width, height)),
    ]  # fmt: skip
    items = [(b"grid", sides, (1, 2, 4), False), *((b"av01", tile, (5, 2, 3, 4), True) for tile in tiles)]
    links = [(b"dimg", 1, range(2, 2 + len(tiles)))]
    if alpha:
        first = 1 + len(items)
        properties += [full_box(b"pixi", 0, b"\1\x08"), box(b"av1C", alpha[1]), full_box(b"auxC", 0, ALPHA)]
        items += [(b"grid", sides, (1, 6, 8), True), *((b"av01", tile, (5, 6, 7), True) for tile in alpha[0])]
        links += [(b"dimg", first, range(first + 1, first + 1 + len(tiles))), (b"auxl", first, [1])]
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    places = [0] * len(items)
    for _ in range(2):  # the places hang on the length of the box that says them
        meta = _meta(items, properties, links, places)
        places = list(np.cumsum([len(head) + len(meta) + 8, *(len(item[1]) for item in items)])[:-1])
    return head + meta + box(b"mdat", *(item[1] for item in items))


def _meta(items, properties, links, places):
    entries = [
        full_box(b"infe", 2 << 24 | is_hidden, struct.pack(">HH4s", number, 0, kind), b"\0")
        for number, (kind, _, _, is_hidden) in enumerate(items, 1)
    ]
    owned = [
        struct.pack(">HB", number, len(item[2])) + bytes(0x80 * (one in (3, 7)) | one for one in item[2])
        for number, item in enumerate(items, 1)
    ]
    located = [
        struct.pack(">HHHII", number, 0, 1, place, len(item[1]))
        for number, (item, place) in enumerate(zip(items, places, strict=True), 1)
    ]
    references = [
        box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets)) for kind, source, targets in links
    ]
    count = struct.pack(">H", len(items))
    return full_box(
        b"meta", 0,
        full_box(b"hdlr", 0, b"\0\0\0\0pict", bytes(13)), full_box(b"pitm", 0, b"\0\1"),
        full_box(b"iloc", 0, b"\x44\0", count, *located), full_box(b"iinf", 0, count, *entries),
        box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 0, struct.pack(">I", len(items)), *owned)),
        full_box(b"iref", 0, *references),
    )  # fmt: skip
