"""What the directory of a TIFF's picture says, with the guesses that viewers make where it says nothing."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sr_tile.errors import ImageReadError
from sr_tile.images import tiff_tags as tags
from sr_tile.images.tiff_directory import ODD, Entry, Page, bytes_at, pages, read_header, value_bytes, whole_numbers
from sr_tile.images.tiff_packed import Packed


class TiffPicture:
    """The directory of one of a file's pictures.

    Args:
        path: of the file, for messages.
        file: it, open.
        number: which of its pictures, from 0.

    Attributes:
        layout: of the file.
        page: the directory.
        entries: of the directory, by their tags.
        pictures: directories that are neither reduced copies nor masks.
        all_bytes: of the pixels of all of them.
        oddities: faults that cost no pixels, as far as they were met.

    Raises:
        ImageReadError: there is no such picture, or it is a camera's raw file.
        ValueError: the file holds none.
    """

    def __init__(self, path: Path, file: BinaryIO, number: int = 0) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.layout, position = read_header(file)
        self.oddities: list[str] = []
        found = [
            page for page in pages(file, self.layout, position) if {tags.WIDTH, tags.LENGTH} <= page.entries.keys()
        ]
        if not found:
            raise ValueError("no picture")
        whole = [page for page in found if not self._is_reduced(page)] or found[:1]
        if number >= len(whole):
            raise ImageReadError(f"{path}: has no page {number + 1}, only {len(whole)}")
        self.pictures, self.page = len(whole), whole[number]
        self.all_bytes = sum(map(self._bytes_of, whole))
        self.entries = self.page.entries
        for tag, name in tags.RAW_FORMATS.items():
            if tag in found[0].entries:
                raise ImageReadError(
                    f"{path}: a camera's raw file ({name}); it is developed where its name says so, as .dng does: rename it"
                )

    def _is_reduced(self, page: Page) -> bool:
        """A copy of less resolution (bit 0, or 2 in the older tag) or a mask (bit 2)."""
        kind, old = self.numbers(page.entries.get(254)), self.numbers(page.entries.get(255))
        return bool(kind and kind[0] & 5) or old[:1] == [2]

    def numbers(self, entry: Entry | None) -> list[int]:
        return whole_numbers(self.file, self.layout, entry)

    def number(self, tag: int, default: int) -> int:
        return (self.numbers(self.entries.get(tag)) or [default])[0]

    def photometric(self, samples: int) -> int:
        """What the values mean; where nothing says so, what libtiff takes them for."""
        guess = (
            tags.RGB
            if samples > 2
            else tags.WHITE_IS_ZERO
            if self.number(tags.COMPRESSION, 1) in tags.FAX
            else tags.BLACK_IS_ZERO
        )
        return self.number(tags.PHOTOMETRIC, guess)

    def model(self, samples: int) -> str:
        """See `TiffPixels.model`: libvips knows YCbCr as JPEG or in fewer samples, and fails at Lab."""
        photometric, compression = self.photometric(samples), self.number(tags.COMPRESSION, 1)
        if photometric == tags.YCBCR and (
            compression in (tags.OLD_JPEG, tags.JPEG)
            or self.number(tags.BITS, 1) != 8
            or self.numbers(self.entries.get(tags.SUBSAMPLING)) != [1, 1]
        ):
            return ""
        return tags.MODELS.get(photometric, "") if samples >= 3 and self.number(tags.BITS, 1) in (8, 16) else ""

    def luma(self) -> tuple[float, ...]:
        entry = self.entries.get(tags.YCBCR_COEFFICIENTS)
        try:
            raw = value_bytes(self.file, self.layout, entry) if entry and (entry.kind, entry.count) == (5, 3) else b""
            parts = struct.unpack(self.layout.order + "6I", raw)
            weights = tuple(above / below for above, below in zip(parts[::2], parts[1::2], strict=True))
        except (*ODD, ZeroDivisionError):
            return tags.LUMA
        return weights if min(weights) > 0 and abs(sum(weights) - 1) < 0.01 else tags.LUMA

    def packed(self, samples: int) -> Packed | None:
        """See `TiffPixels.packed`; None for what libvips knows, and for what nobody unpacks."""
        bits = self.numbers(self.entries.get(tags.BITS)) or [1]
        photometric = self.photometric(samples)
        known = bits[0] in (8, 16) or (bits[0] in (1, 2, 4) and samples == 1) or bits[0] > 16
        if known or len(set(bits)) > 1 or photometric > tags.RGB or self.number(tags.FORMAT, 1) not in (1, 4):
            return None
        predicted = self.number(tags.PREDICTOR, 1) != 1 and self.number(tags.COMPRESSION, 1) not in (1, 32773)
        if predicted or self.number(tags.COMPRESSION, 1) not in tags.OF_BYTES or tags.TILES[0] in self.entries:
            return None
        return Packed(self.number(tags.WIDTH, 1), bits[0], samples, photometric == tags.WHITE_IS_ZERO)

    def is_old_lzw(self) -> bool:
        """Whether codes begin at the lowest bit, as libtiff tells: by the first code, which clears the table."""
        offsets = self.numbers(self.entries.get(tags.STRIPS[0])) or self.numbers(self.entries.get(tags.TILES[0]))
        try:
            first = bytes_at(self.file, offsets[0], 2)
        except (*ODD, IndexError):
            return False
        return first[0] == 0 and first[1] & 1 == 1

    def _bytes_of(self, page: Page) -> int:
        """Of a picture's pixels, each sample in whole bytes."""
        width, height, samples, bits = (
            (self.numbers(page.entries.get(tag)) or [1])[0]
            for tag in (tags.WIDTH, tags.LENGTH, tags.SAMPLES, tags.BITS)
        )
        return width * height * samples * -(-bits // 8)

    def is_open(self, entry: Entry) -> bool:
        """Whether text lacks the zero at its end."""
        if entry.kind != tags.ASCII or not 0 < entry.count <= tags.MAX_TEXT:
            return False
        try:
            return not value_bytes(self.file, self.layout, entry).endswith(b"\0")
        except ODD:
            return False

    def blobs(self) -> Iterator[tuple[str, bytes]]:
        for name, tag in tags.BLOBS.items():
            entry = self.entries.get(tag)
            if entry is not None and 0 < entry.size <= tags.MAX_BLOB:
                try:
                    yield name, value_bytes(self.file, self.layout, entry)
                except ODD:
                    self.oddities.append(f"{name.upper()} that lies outside of the file")

    def extra(self, samples: int) -> list[int]:
        """What the samples beyond the colours are; alpha where nothing says so, as all viewers take it."""
        beyond = samples - tags.COLOURS.get(self.photometric(samples), samples)
        stored = self.numbers(self.entries.get(tags.EXTRA))
        if beyond > 0 and not stored:
            self.oddities.append("no word on its fourth channel" if samples == 4 else "no word on its last channel")
            return [2, *[0] * (beyond - 1)]
        return (stored + [0] * max(0, beyond))[: max(0, beyond)]

    def outside(self) -> int:
        entries = self.page.entries
        where = tags.TILES if tags.TILES[0] in entries else tags.STRIPS
        offsets, counts = (self.numbers(entries.get(tag)) for tag in where)
        counts += [0] * (len(offsets) - len(counts))
        return sum(offset + count > self.size for offset, count in zip(offsets, counts, strict=False))
