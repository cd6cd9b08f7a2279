"""What libvips needs of a TIFF to read its pixels, and nothing else: no pixels, no libvips.

Cameras, scanners and old programs write directories that every viewer forgives: text without its zero, tags out of order or
twice, an orientation of 0, missing counts of bytes. libtiff warns about all of them, as it does about lost pixels. So the
picture's directory is written anew, with the tags that describe pixels, at the end of a virtual file; what libtiff then
still warns about is damage. Reduced copies and masks are other directories, and left out by that.
"""

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sr_tile.images import tiff_tags as tags
from sr_tile.images.tiff_directory import ODD, bytes_at, pack_entry
from sr_tile.images.tiff_packed import Packed
from sr_tile.images.tiff_picture import TiffPicture
from sr_tile.images.virtual_file import Piece
from sr_tile.tiling.grid import round_up


@dataclass(frozen=True)
class TiffPixels:
    """A TIFF's picture, for libvips.

    Attributes:
        planes: pieces of the virtual file to read; one for each channel where these lie apart, which libvips mixes up.
        position: of the picture's directory in the real file.
        pictures: directories that are neither reduced copies nor masks.
        channels: samples a pixel, of all planes together.
        premultiplied: colours were multiplied by alpha, and libvips was not told so.
        oddities: faults of the directory that cost no pixels.
        compression: by its name.
        by_pillow: libvips' wheels do not know the compression, and Pillow's do.
        old_lzw: compressed as tags.LZW was before TIFF 6, of which libtiff warns in vain.
        number: of the directory among all of the file, from 0.
        bits: of a channel.
        signed: integers that may be negative.
        floats: floating point numbers.
        packed: how the bytes of a row hold samples that libvips does not know; it is told that they are pixels.
        colours: channels that are not alpha.
        model: what three channels mean that libvips hands out as they are: "Lab", "ICC Lab", "YCbCr"; "" for all else.
        luma: weights of red, green and blue in YCbCr.
        ycbcr: colours are stored as luma and chroma.
        has_density: pixels per inch or cm are given.
        blobs: ICC profile, XMP and IPTC, by these names in lower case.
        outside: strips or tiles that lie beyond the end of the file.
        all_bytes: of the pixels of all pictures of the file.
    """

    planes: tuple[tuple[Piece, ...], ...]
    position: int
    pictures: int
    channels: int
    premultiplied: bool
    oddities: tuple[str, ...]
    compression: str
    by_pillow: bool
    old_lzw: bool
    number: int
    bits: int
    signed: bool
    floats: bool
    packed: Packed | None
    ycbcr: bool
    model: str
    luma: tuple[float, ...]
    colours: int
    has_density: bool
    blobs: dict[str, bytes]
    outside: int
    all_bytes: int


def tiff_pixels(path: Path, page: int = 0) -> TiffPixels | None:
    """What to read of a TIFF; None for one that cannot be understood, which may go to libvips as it is.

    Args:
        path: of the file.
        page: which of its pictures, from 0.

    Raises:
        ImageReadError: it is a camera's raw file.
    """
    try:
        with path.open("rb") as file:
            return _Rewritten(TiffPicture(path, file, page)).pixels()
    except ODD:
        return None


class _Rewritten:
    """How a picture's directory is written anew."""

    def __init__(self, picture: TiffPicture) -> None:
        self._picture = picture

    def pixels(self) -> TiffPixels:
        picture = self._picture
        samples = picture.number(tags.SAMPLES, 1)
        if not 1 <= samples <= 64:
            raise ValueError(f"{samples} samples a pixel")
        for tag in tags.NEEDED & picture.entries.keys():
            if not picture.numbers(picture.entries[tag]):
                raise ValueError(f"tag {tag} cannot be read")
        if not picture.page.sorted:
            picture.oddities.append("tags out of order or twice")
        if not picture.page.chained:
            picture.oddities.append("a next directory that does not exist")
        if any(map(picture.is_open, picture.entries.values())):
            picture.oddities.append("text without its zero")
        photometric = picture.photometric(samples)
        model = picture.model(samples)
        split = (
            picture.number(tags.PLANAR, 1) == 2
            and samples > 1
            and (photometric in (0, 1, tags.RGB, tags.INKS) or bool(model))
        )
        if picture.layout.big is False and picture.size > 2**32 - 2**24:
            raise ValueError("no room for a directory")
        directories = [self._directory(samples, plane if split else None) for plane in range(samples if split else 1)]
        compression, packed = picture.number(tags.COMPRESSION, 1), picture.packed(1 if split else samples)
        return TiffPixels(
            planes=tuple(tuple(self._pieces(directory)) for directory in directories),
            position=picture.page.position,
            pictures=picture.pictures,
            channels=samples,
            premultiplied=picture.extra(samples)[:1] == [1],
            oddities=tuple(dict.fromkeys(picture.oddities)),
            compression=tags.COMPRESSIONS.get(compression, f"number {compression}"),
            by_pillow=compression in tags.BY_PILLOW,
            old_lzw=compression == tags.LZW and picture.is_old_lzw(),
            number=picture.page.number,
            bits=picture.number(tags.BITS, 1),
            signed=picture.number(tags.FORMAT, 1) == 2,
            floats=picture.number(tags.FORMAT, 1) == 3,
            packed=packed,
            ycbcr=photometric == tags.YCBCR,
            model=model,
            luma=picture.luma(),
            colours=tags.COLOURS.get(photometric, samples),
            has_density=282 in picture.entries and picture.number(tags.UNIT, 2) in (2, 3),
            blobs=dict(picture.blobs()),
            outside=picture.outside(),
            all_bytes=picture.all_bytes,
        )

    def _directory(self, samples: int, plane: int | None) -> list[tuple[int, int, list[int] | bytes, int]]:
        """(tag, type, values or the raw 4 or 8 bytes, count) of the new directory, in order."""
        picture = self._picture
        own = 1 if plane is not None else samples
        values: dict[int, tuple[int, list[int]]] = {tags.SAMPLES: (tags.SHORT, [own])}
        bits = (picture.numbers(picture.entries.get(tags.BITS)) or [1])[:samples]
        values[tags.BITS] = (tags.SHORT, [*bits, *[bits[-1]] * (samples - len(bits))][:own])
        photometric = picture.photometric(samples)
        if tags.PHOTOMETRIC not in picture.entries:
            picture.oddities.append("no word on what its values mean")
        if plane is not None:
            values[tags.PHOTOMETRIC] = (tags.SHORT, [min(photometric, tags.BLACK_IS_ZERO)])
        else:
            values[tags.PHOTOMETRIC] = (tags.SHORT, [tags.RGB if picture.model(samples) else photometric])
        formats = (picture.numbers(picture.entries.get(tags.FORMAT)) or [1])[:samples]
        if formats[0] not in (1, 4):
            values[tags.FORMAT] = (tags.SHORT, [formats[0]] * own)
        if plane is None and (extra := picture.extra(samples)):
            # Premultiplied colours are divided by us: libvips cuts off where it should round.
            values[tags.EXTRA] = (tags.SHORT, [2 if kind == 1 else kind for kind in extra])
        orientation = picture.number(tags.ORIENTATION, 1)
        if orientation in range(1, 9):
            values[tags.ORIENTATION] = (tags.SHORT, [orientation])
        else:
            picture.oddities.append(f"an orientation of {orientation}")
        where = tags.TILES if tags.TILES[0] in picture.entries else tags.STRIPS
        offsets, counts = self._strips(where, samples, plane)
        wide = tags.LONG8 if picture.layout.big else tags.LONG
        values[where[0]], values[where[1]] = (wide, offsets), (wide, counts)
        known_unit = picture.number(tags.UNIT, 2) in (1, 2, 3)
        if not known_unit:
            picture.oddities.append("an unknown unit of resolution")
        rows: list[tuple[int, int, list[int] | bytes, int]] = []
        left_out = {tags.PLANAR, tags.INKSET} if plane is not None else set()
        if packed := picture.packed(own):
            values |= {
                tags.WIDTH: (tags.LONG, [packed.row_bytes]),
                tags.BITS: (tags.SHORT, [8]),
                tags.SAMPLES: (tags.SHORT, [1]),
            }
            values[tags.PHOTOMETRIC] = (tags.SHORT, [tags.BLACK_IS_ZERO])
            values.pop(tags.EXTRA, None)
            left_out |= {tags.PLANAR, tags.PREDICTOR}
        left_out |= set() if known_unit else {282, 283, tags.UNIT}
        for tag in sorted((tags.KEPT - left_out) | values.keys()):
            entry = picture.entries.get(tag)
            if tag in values:
                kind, numbers = values[tag]
                rows.append((tag, kind, numbers, len(numbers)))
            elif entry is not None and entry.size and (tag in tags.NOT_NUMBERS or picture.numbers(entry)):
                rows.append((tag, entry.kind, entry.inline, entry.count))
        return rows

    def _strips(self, where: tuple[int, int], samples: int, plane: int | None) -> tuple[list[int], list[int]]:
        """(positions, bytes) of all strips or tiles, of one plane where that is asked for; missing bytes computed."""
        picture = self._picture
        offsets = picture.numbers(picture.entries.get(where[0]))
        stored = picture.numbers(picture.entries.get(where[1]))
        if not offsets:
            raise ValueError("no pixels")
        per_plane = len(offsets) // samples if picture.number(tags.PLANAR, 1) == 2 else len(offsets)
        full = sorted({*offsets, picture.size})
        after = dict(itertools.pairwise(full))
        expected = self._exact(where == tags.TILES, samples)
        counts = []
        for index, offset in enumerate(offsets):
            count = stored[index] if index < len(stored) else 0
            exact = expected(index % max(1, per_plane)) if expected else None
            if offset == 0 or offset >= picture.size:  # a tile without data, or damage: libtiff knows both
                counts.append(count)
                continue
            if exact and count != exact:
                count = min(exact, picture.size - offset)
            elif count == 0 or offset + count > picture.size:
                count = after.get(offset, picture.size) - offset
            counts.append(count)
        if counts != stored:
            picture.oddities.append("wrong or missing counts of bytes" if stored else "no counts of bytes")
        if plane is not None:
            part = slice(plane * per_plane, (plane + 1) * per_plane)
            return offsets[part], counts[part]
        return offsets, counts

    def _exact(self, tiles: bool, samples: int) -> Callable[[int], int] | None:
        """Bytes of each strip or tile of a plane that is not compressed; None where only the file can say."""
        picture = self._picture
        width, height = picture.number(tags.WIDTH, 0), picture.number(tags.LENGTH, 0)
        rows = picture.number(tags.ROWS, height) or height
        if tiles:
            width, rows = picture.number(tags.TILE_WIDTH, 0), picture.number(tags.TILE_LENGTH, 0)
        bits = picture.numbers(picture.entries.get(tags.BITS)) or [1]
        together = samples if picture.number(tags.PLANAR, 1) == 1 else 1
        total = sum(bits[:together]) if len(bits) >= together else bits[0] * together
        known = picture.number(tags.COMPRESSION, 1) == 1 and picture.number(tags.PHOTOMETRIC, 1) != tags.YCBCR
        if not known or width < 1 or rows < 1:
            return None
        return lambda index: (width * total + 7) // 8 * (rows if tiles else max(0, min(rows, height - index * rows)))

    def _pieces(self, directory: list[tuple[int, int, list[int] | bytes, int]]) -> Iterator[Piece]:
        picture = self._picture
        layout = picture.layout
        head = bytearray(bytes_at(picture.file, 0, 2 * layout.offset.size))
        at = round_up(picture.size, 16)
        body_at = at + layout.count.size + len(directory) * layout.entry.size + layout.offset.size
        body, table = io.BytesIO(), b""
        for tag, kind, value, count in directory:
            if isinstance(value, bytes):
                table += layout.entry.pack(tag, kind, count, value)
            else:
                table += pack_entry(layout, tag, kind, value, body, body_at)
        head[-layout.offset.size :] = layout.offset.pack(at)
        yield Piece(data=bytes(head))
        yield Piece(len(head), picture.size - len(head))
        yield Piece(data=bytes(at - picture.size) + layout.count.pack(len(directory)) + table)
        yield Piece(data=layout.offset.pack(0) + body.getvalue())
