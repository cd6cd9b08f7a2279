"""What libvips needs of a TIFF to read its pixels, and nothing else: no pixels, no libvips.

Cameras, scanners and old programs write directories that every viewer forgives: text without its zero, tags out of order or
twice, an orientation of 0, missing counts of bytes. libtiff warns about all of them, as it does about lost pixels. So the
picture's directory is written anew, with the tags that describe pixels, at the end of a virtual file; what libtiff then
still warns about is damage. Reduced copies and masks are other directories, and left out by that.
"""

import io
import itertools
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sr_tile.errors import ImageReadError
from sr_tile.images.tiff_directory import (
    ODD,
    Entry,
    Page,
    bytes_at,
    pack_entry,
    pages,
    read_header,
    value_bytes,
    whole_numbers,
)
from sr_tile.images.tiff_packed import Packed
from sr_tile.images.virtual_file import Piece
from sr_tile.tiling.grid import round_up

_ASCII, _SHORT, _LONG, _LONG8 = 2, 3, 4, 16
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_PREDICTOR, _YCBCR_COEFFICIENTS, _SUBSAMPLING = 317, 529, 530
_SAMPLES, _ROWS, _PLANAR, _UNIT, _TILE_WIDTH, _TILE_LENGTH, _INKSET, _EXTRA, _FORMAT = (
    277,
    278,
    284,
    296,
    322,
    323,
    332,
    338,
    339,
)
_STRIPS, _TILES = (273, 279), (324, 325)  # where they lie, and how many bytes each has
# With fill order, options of the fax codes, predictor, palette, inks, JPEG tables old and new, and YCbCr.
_KEPT = {_WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, 266, _ROWS, 282, 283, _PLANAR, 292, 293, _UNIT, 317, 320}
_KEPT |= {_TILE_WIDTH, _TILE_LENGTH, _INKSET, 347, *range(512, 522), *range(529, 533)}
_NEEDED = {_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR, _FORMAT}
_NOT_NUMBERS = {282, 283, 347, 529, 532}
_RAW_FORMATS = {50706: "DNG", 46275: "Hasselblad"}  # tags of files from cameras, whose picture is a mosaic
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INKS, _YCBCR = 0, 1, 2, 5, 6
_MODELS = {6: "YCbCr", 8: "Lab", 9: "ICC Lab"}
_FAX, _LZW, _OLD_JPEG, _JPEG = (2, 3, 4), 5, 6, 7
_BY_PILLOW = (_OLD_JPEG, 34925)
_OF_BYTES = (1, _LZW, 8, 32773, 32946, 50000)
"""Compressions that know of bytes, and not of pixels."""
_LUMA = (0.299, 0.587, 0.114)
_BLOBS = {"icc": 34675, "xmp": 700, "iptc": 33723}
_MAX_BLOB, _MAX_TEXT = 2**26, 2**16
_COMPRESSIONS = {
    1: "none", 2: "CCITT modified Huffman", 3: "CCITT fax 3", 4: "CCITT fax 4", 5: "LZW", 6: "old JPEG", 7: "JPEG",
    8: "deflate", 9: "JBIG", 10: "JBIG", 32766: "NeXT", 32771: "CCITT word aligned", 32773: "PackBits", 32809: "ThunderScan",
    32895: "IT8", 32908: "Pixar film", 32909: "PixarLog", 32946: "deflate", 33003: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGILog", 34677: "SGILog24", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG",
    34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip


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
        old_lzw: compressed as LZW was before TIFF 6, of which libtiff warns in vain.
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
            return _Directory(path, file, page).pixels()
    except ODD:
        return None


class _Directory:
    """The picture's directory, and how it is written anew."""

    def __init__(self, path: Path, file: BinaryIO, number: int = 0) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self._layout, position = read_header(file)
        self._oddities: list[str] = []
        found = [page for page in pages(file, self._layout, position) if {_WIDTH, _LENGTH} <= page.entries.keys()]
        if not found:
            raise ValueError("no picture")
        whole = [page for page in found if not self._is_reduced(page)] or found[:1]
        if number >= len(whole):
            raise ImageReadError(f"{path}: has no page {number + 1}, only {len(whole)}")
        self._pictures, self._page = len(whole), whole[number]
        self._all_bytes = sum(map(self._bytes_of, whole))
        for tag, name in _RAW_FORMATS.items():
            if tag in found[0].entries:
                raise ImageReadError(
                    f"{path}: a camera's raw file ({name}); it is developed where its name says so, as .dng does: rename it"
                )

    def _is_reduced(self, page: Page) -> bool:
        """A copy of less resolution (bit 0, or 2 in the older tag) or a mask (bit 2)."""
        kind, old = self._numbers(page.entries.get(254)), self._numbers(page.entries.get(255))
        return bool(kind and kind[0] & 5) or old[:1] == [2]

    def _numbers(self, entry: Entry | None) -> list[int]:
        return whole_numbers(self._file, self._layout, entry)

    def _number(self, tag: int, default: int) -> int:
        return (self._numbers(self._page.entries.get(tag)) or [default])[0]

    def pixels(self) -> TiffPixels:
        samples = self._number(_SAMPLES, 1)
        if not 1 <= samples <= 64:
            raise ValueError(f"{samples} samples a pixel")
        for tag in _NEEDED & self._page.entries.keys():
            if not self._numbers(self._page.entries[tag]):
                raise ValueError(f"tag {tag} cannot be read")
        if not self._page.sorted:
            self._oddities.append("tags out of order or twice")
        if not self._page.chained:
            self._oddities.append("a next directory that does not exist")
        if any(map(self._is_open, self._page.entries.values())):
            self._oddities.append("text without its zero")
        photometric = self._photometric(samples)
        model = self._model(samples)
        split = self._number(_PLANAR, 1) == 2 and samples > 1 and (photometric in (0, 1, _RGB, _INKS) or bool(model))
        if self._layout.big is False and self._size > 2**32 - 2**24:
            raise ValueError("no room for a directory")
        directories = [self._directory(samples, plane if split else None) for plane in range(samples if split else 1)]
        compression, packed = self._number(_COMPRESSION, 1), self._packed(1 if split else samples)
        return TiffPixels(
            planes=tuple(tuple(self._pieces(directory)) for directory in directories),
            position=self._page.position,
            pictures=self._pictures,
            channels=samples,
            premultiplied=self._extra(samples)[:1] == [1],
            oddities=tuple(dict.fromkeys(self._oddities)),
            compression=_COMPRESSIONS.get(compression, f"number {compression}"),
            by_pillow=compression in _BY_PILLOW,
            old_lzw=compression == _LZW and self._is_old_lzw(),
            number=self._page.number,
            bits=self._number(_BITS, 1),
            signed=self._number(_FORMAT, 1) == 2,
            floats=self._number(_FORMAT, 1) == 3,
            packed=packed,
            ycbcr=photometric == _YCBCR,
            model=model,
            luma=self._luma(),
            colours=_COLOURS.get(photometric, samples),
            has_density=282 in self._page.entries and self._number(_UNIT, 2) in (2, 3),
            blobs=dict(self._blobs()),
            outside=self._outside(),
            all_bytes=self._all_bytes,
        )

    def _photometric(self, samples: int) -> int:
        """What the values mean; where nothing says so, what libtiff takes them for."""
        guess = _RGB if samples > 2 else _WHITE_IS_ZERO if self._number(_COMPRESSION, 1) in _FAX else _BLACK_IS_ZERO
        return self._number(_PHOTOMETRIC, guess)

    def _model(self, samples: int) -> str:
        """See `TiffPixels.model`: libvips knows YCbCr as JPEG or in fewer samples, and fails at Lab."""
        photometric, compression = self._photometric(samples), self._number(_COMPRESSION, 1)
        if photometric == _YCBCR and (
            compression in (_OLD_JPEG, _JPEG)
            or self._number(_BITS, 1) != 8
            or self._numbers(self._page.entries.get(_SUBSAMPLING)) != [1, 1]
        ):
            return ""
        return _MODELS.get(photometric, "") if samples >= 3 and self._number(_BITS, 1) in (8, 16) else ""

    def _luma(self) -> tuple[float, ...]:
        entry = self._page.entries.get(_YCBCR_COEFFICIENTS)
        try:
            raw = value_bytes(self._file, self._layout, entry) if entry and (entry.kind, entry.count) == (5, 3) else b""
            parts = struct.unpack(self._layout.order + "6I", raw)
            weights = tuple(above / below for above, below in zip(parts[::2], parts[1::2], strict=True))
        except (*ODD, ZeroDivisionError):
            return _LUMA
        return weights if min(weights) > 0 and abs(sum(weights) - 1) < 0.01 else _LUMA

    def _packed(self, samples: int) -> Packed | None:
        """See `TiffPixels.packed`; None for what libvips knows, and for what nobody unpacks."""
        bits = self._numbers(self._page.entries.get(_BITS)) or [1]
        photometric = self._photometric(samples)
        known = bits[0] in (8, 16) or (bits[0] in (1, 2, 4) and samples == 1) or bits[0] > 16
        if known or len(set(bits)) > 1 or photometric > _RGB or self._number(_FORMAT, 1) not in (1, 4):
            return None
        predicted = self._number(_PREDICTOR, 1) != 1 and self._number(_COMPRESSION, 1) not in (1, 32773)
        if predicted or self._number(_COMPRESSION, 1) not in _OF_BYTES or _TILES[0] in self._page.entries:
            return None
        return Packed(self._number(_WIDTH, 1), bits[0], samples, photometric == _WHITE_IS_ZERO)

    def _is_old_lzw(self) -> bool:
        """Whether codes begin at the lowest bit, as libtiff tells: by the first code, which clears the table."""
        offsets = self._numbers(self._page.entries.get(_STRIPS[0])) or self._numbers(self._page.entries.get(_TILES[0]))
        try:
            first = bytes_at(self._file, offsets[0], 2)
        except (*ODD, IndexError):
            return False
        return first[0] == 0 and first[1] & 1 == 1

    def _bytes_of(self, page: Page) -> int:
        """Of a picture's pixels, each sample in whole bytes."""
        width, height, samples, bits = (
            (self._numbers(page.entries.get(tag)) or [1])[0] for tag in (_WIDTH, _LENGTH, _SAMPLES, _BITS)
        )
        return width * height * samples * -(-bits // 8)

    def _is_open(self, entry: Entry) -> bool:
        """Whether text lacks the zero at its end."""
        if entry.kind != _ASCII or not 0 < entry.count <= _MAX_TEXT:
            return False
        try:
            return not value_bytes(self._file, self._layout, entry).endswith(b"\0")
        except ODD:
            return False

    def _blobs(self) -> Iterator[tuple[str, bytes]]:
        for name, tag in _BLOBS.items():
            entry = self._page.entries.get(tag)
            if entry is not None and 0 < entry.size <= _MAX_BLOB:
                try:
                    yield name, value_bytes(self._file, self._layout, entry)
                except ODD:
                    self._oddities.append(f"{name.upper()} that lies outside of the file")

    def _extra(self, samples: int) -> list[int]:
        """What the samples beyond the colours are; alpha where nothing says so, as all viewers take it."""
        beyond = samples - _COLOURS.get(self._photometric(samples), samples)
        stored = self._numbers(self._page.entries.get(_EXTRA))
        if beyond > 0 and not stored:
            self._oddities.append("no word on its fourth channel" if samples == 4 else "no word on its last channel")
            return [2, *[0] * (beyond - 1)]
        return (stored + [0] * max(0, beyond))[: max(0, beyond)]

    def _directory(self, samples: int, plane: int | None) -> list[tuple[int, int, list[int] | bytes, int]]:
        """(tag, type, values or the raw 4 or 8 bytes, count) of the new directory, in order."""
        own = 1 if plane is not None else samples
        values: dict[int, tuple[int, list[int]]] = {_SAMPLES: (_SHORT, [own])}
        bits = (self._numbers(self._page.entries.get(_BITS)) or [1])[:samples]
        values[_BITS] = (_SHORT, [*bits, *[bits[-1]] * (samples - len(bits))][:own])
        photometric = self._photometric(samples)
        if _PHOTOMETRIC not in self._page.entries:
            self._oddities.append("no word on what its values mean")
        if plane is not None:
            values[_PHOTOMETRIC] = (_SHORT, [min(photometric, _BLACK_IS_ZERO)])
        else:
            values[_PHOTOMETRIC] = (_SHORT, [_RGB if self._model(samples) else photometric])
        formats = (self._numbers(self._page.entries.get(_FORMAT)) or [1])[:samples]
        if formats[0] not in (1, 4):
            values[_FORMAT] = (_SHORT, [formats[0]] * own)
        if plane is None and (extra := self._extra(samples)):
            # Premultiplied colours are divided by us: libvips cuts off where it should round.
            values[_EXTRA] = (_SHORT, [2 if kind == 1 else kind for kind in extra])
        orientation = self._number(_ORIENTATION, 1)
        if orientation in range(1, 9):
            values[_ORIENTATION] = (_SHORT, [orientation])
        else:
            self._oddities.append(f"an orientation of {orientation}")
        where = _TILES if _TILES[0] in self._page.entries else _STRIPS
        offsets, counts = self._strips(where, samples, plane)
        wide = _LONG8 if self._layout.big else _LONG
        values[where[0]], values[where[1]] = (wide, offsets), (wide, counts)
        known_unit = self._number(_UNIT, 2) in (1, 2, 3)
        if not known_unit:
            self._oddities.append("an unknown unit of resolution")
        rows: list[tuple[int, int, list[int] | bytes, int]] = []
        left_out = {_PLANAR, _INKSET} if plane is not None else set()
        if packed := self._packed(own):
            values |= {_WIDTH: (_LONG, [packed.row_bytes]), _BITS: (_SHORT, [8]), _SAMPLES: (_SHORT, [1])}
            values[_PHOTOMETRIC] = (_SHORT, [_BLACK_IS_ZERO])
            values.pop(_EXTRA, None)
            left_out |= {_PLANAR, _PREDICTOR}
        left_out |= set() if known_unit else {282, 283, _UNIT}
        for tag in sorted((_KEPT - left_out) | values.keys()):
            entry = self._page.entries.get(tag)
            if tag in values:
                kind, numbers = values[tag]
                rows.append((tag, kind, numbers, len(numbers)))
            elif entry is not None and entry.size and (tag in _NOT_NUMBERS or self._numbers(entry)):
                rows.append((tag, entry.kind, entry.inline, entry.count))
        return rows

    def _strips(self, where: tuple[int, int], samples: int, plane: int | None) -> tuple[list[int], list[int]]:
        """(positions, bytes) of all strips or tiles, of one plane where that is asked for; missing bytes computed."""
        offsets = self._numbers(self._page.entries.get(where[0]))
        stored = self._numbers(self._page.entries.get(where[1]))
        if not offsets:
            raise ValueError("no pixels")
        per_plane = len(offsets) // samples if self._number(_PLANAR, 1) == 2 else len(offsets)
        full = sorted({*offsets, self._size})
        after = dict(itertools.pairwise(full))
        expected = self._exact(where == _TILES, samples)
        counts = []
        for index, offset in enumerate(offsets):
            count = stored[index] if index < len(stored) else 0
            exact = expected(index % max(1, per_plane)) if expected else None
            if offset == 0 or offset >= self._size:  # a tile without data, or damage: libtiff knows both
                counts.append(count)
                continue
            if exact and count != exact:
                count = min(exact, self._size - offset)
            elif count == 0 or offset + count > self._size:
                count = after.get(offset, self._size) - offset
            counts.append(count)
        if counts != stored:
            self._oddities.append("wrong or missing counts of bytes" if stored else "no counts of bytes")
        if plane is not None:
            part = slice(plane * per_plane, (plane + 1) * per_plane)
            return offsets[part], counts[part]
        return offsets, counts

    def _outside(self) -> int:
        entries = self._page.entries
        where = _TILES if _TILES[0] in entries else _STRIPS
        offsets, counts = (self._numbers(entries.get(tag)) for tag in where)
        counts += [0] * (len(offsets) - len(counts))
        return sum(offset + count > self._size for offset, count in zip(offsets, counts, strict=False))

    def _exact(self, tiles: bool, samples: int) -> Callable[[int], int] | None:
        """Bytes of each strip or tile of a plane that is not compressed; None where only the file can say."""
        width, height = self._number(_WIDTH, 0), self._number(_LENGTH, 0)
        rows = self._number(_ROWS, height) or height
        if tiles:
            width, rows = self._number(_TILE_WIDTH, 0), self._number(_TILE_LENGTH, 0)
        bits = self._numbers(self._page.entries.get(_BITS)) or [1]
        together = samples if self._number(_PLANAR, 1) == 1 else 1
        total = sum(bits[:together]) if len(bits) >= together else bits[0] * together
        known = self._number(_COMPRESSION, 1) == 1 and self._number(_PHOTOMETRIC, 1) != _YCBCR
        if not known or width < 1 or rows < 1:
            return None
        return lambda index: (width * total + 7) // 8 * (rows if tiles else max(0, min(rows, height - index * rows)))

    def _pieces(self, directory: list[tuple[int, int, list[int] | bytes, int]]) -> Iterator[Piece]:
        layout = self._layout
        head = bytearray(bytes_at(self._file, 0, 2 * layout.offset.size))
        at = round_up(self._size, 16)
        body_at = at + layout.count.size + len(directory) * layout.entry.size + layout.offset.size
        body, table = io.BytesIO(), b""
        for tag, kind, value, count in directory:
            if isinstance(value, bytes):
                table += layout.entry.pack(tag, kind, count, value)
            else:
                table += pack_entry(layout, tag, kind, value, body, body_at)
        head[-layout.offset.size :] = layout.offset.pack(at)
        yield Piece(data=bytes(head))
        yield Piece(len(head), self._size - len(head))
        yield Piece(data=bytes(at - self._size) + layout.count.pack(len(directory)) + table)
        yield Piece(data=layout.offset.pack(0) + body.getvalue())
