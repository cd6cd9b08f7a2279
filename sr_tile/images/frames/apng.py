"""Writes APNG, frame by frame, at 8 and 16 bits; and AVIF by way of it.

Every frame is a PNG of its own, whose compressed rows move into the file. Layout: Portable Network Graphics (Third
Edition), W3C 2025, section 11.3.4.
"""

import logging
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from sr_tile.errors import ImageWriteError
from sr_tile.images.formats import ImageInfo, Metadata, WriteOptions
from sr_tile.images.frames.frame import Frame, FrameSink, InOrder, Picture
from sr_tile.images.metadata_choices import as_chosen
from sr_tile.images.png_chunks import SIGNATURE, chunk, chunks_of
from sr_tile.images.png_encoder import open_encoder
from sr_tile.images.result_metadata import extras_of, means_more_than_srgb
from sr_tile.images.rows import Sink
from sr_tile.images.vips import reason_of
from sr_tile.system.atomic_file import AtomicFile

log = logging.getLogger("sr_tile")

_LONGEST = 65_535  # of a numerator of 16 bits


class ApngWriter:
    """Writes APNG; see `FrameWriter`.

    Args:
        path: of the target.
        loop: times that all frames are shown, 0 for ever.
        options: how to encode.
        overwrite: replace a target that exists.
    """

    def __init__(self, path: Path, loop: int, options: WriteOptions, *, overwrite: bool) -> None:
        self.path, self._loop, self._options = path, loop, replace(options, format="png")
        self.frames = self._sequence = 0
        self._first: ImageInfo | None = None
        try:
            self._file = AtomicFile(path, overwrite=overwrite, durable=True)
            self._out = self._file.stream()
        except OSError as error:
            raise self._unwritable(error) from None
        self._order: InOrder[Picture] = InOrder(self._write)

    def open_frame(self, frame: Frame, info: ImageInfo) -> Sink:
        """See `FrameWriter.open_frame`."""
        return FrameSink(frame, as_chosen(info, self._options), self._order)

    def skip(self, frame: Frame) -> None:
        """See `FrameWriter.skip`."""
        self._order.put(frame.index, None)

    def _write(self, picture: Picture) -> None:
        first = self._first or picture.info
        if (picture.info.height, picture.info.width) != (first.height, first.width):
            raise ImageWriteError(f"{self.path}: {picture.frame.name} has another size than those before")
        try:
            with tempfile.TemporaryFile() as file:
                self._encode(picture, file)
                for delay in _delays(sum((time.duration for time in picture.frame.times), Fraction(0))):
                    file.seek(0)
                    self._append(file, picture.info, delay)
        except OSError as error:
            raise self._unwritable(error) from None

    def _encode(self, picture: Picture, file: BinaryIO) -> None:
        info = replace(picture.info, metadata=Metadata()) if self._first else picture.info
        for what in self._lost(info):
            log.warning("%s: lost: %s", self.path, what)
        encoder = open_encoder("png", info, picture.info.dtype, self._options, file.fileno())
        try:
            if not (encoder.push(picture.pixels_hwc) and encoder.finish()):
                raise ImageWriteError(f"{self.path}: cannot be written: {encoder.failure}")
        finally:
            encoder.stop()

    def _lost(self, info: ImageInfo) -> Iterator[str]:
        """What the file cannot hold, in words."""
        yield from extras_of("png", info).lost

    def _append(self, file: BinaryIO, info: ImageInfo, delay: tuple[int, int]) -> None:
        """The chunks of a frame's PNG; of all but the first only the rows."""
        begins = self._first is None
        if begins:
            self._out.write(SIGNATURE)
        control = struct.pack(">IIIIHHBB", info.width, info.height, 0, 0, *delay, 0, 0)
        announced = False
        for kind, body in chunks_of(file):
            if kind == b"IDAT":
                if not announced:
                    self._write_chunk(b"fcTL", self._number() + control)
                    announced = True
                self._write_chunk(*((kind, body) if begins else (b"fdAT", self._number() + body)))
            elif begins and kind != b"IEND":
                self._write_chunk(kind, body)
                if kind == b"IHDR":
                    self._count_at = self._out.tell()
                    self._write_chunk(b"acTL", bytes(8))
        self._first = self._first or info
        self.frames += 1

    def _number(self) -> bytes:
        self._sequence += 1
        return struct.pack(">I", self._sequence - 1)

    def _write_chunk(self, kind: bytes, body: bytes) -> None:
        self._out.write(chunk(kind, body))

    def close(self) -> None:
        """See `FrameWriter.close`."""
        try:
            self._write_chunk(b"IEND", b"")
            self._out.seek(self._count_at)
            self._write_chunk(b"acTL", struct.pack(">II", self.frames, self._loop))
            self._publish()
            self._out.close()
            self._file.commit()
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            self.abort()

    def _publish(self) -> None:
        """The file is whole."""

    def abort(self) -> None:
        """See `FrameWriter.abort`."""
        self._file.discard()

    def _unwritable(self, error: OSError) -> ImageWriteError:
        return ImageWriteError(f"{self.path}: cannot be written: {reason_of(error)}")


def _delays(seconds: Fraction) -> Iterator[tuple[int, int]]:
    """A duration as fractions of 16-bit numbers; one that is too long for one takes several."""
    while seconds * 10 > _LONGEST:
        yield _LONGEST, 10
        seconds -= Fraction(_LONGEST, 10)
    for unit in (1000, 100, 10):
        if seconds * unit <= _LONGEST:
            exact = seconds.limit_denominator(_LONGEST)
            yield (exact.numerator, exact.denominator) if exact.numerator <= _LONGEST else (round(seconds * unit), unit)
            return


class AvifAnimationWriter(ApngWriter):
    """Writes AVIF out of an APNG, which keeps the frames meanwhile; see `FrameWriter`.

    Args:
        path: of the target.
        loop: not kept, AVIF has no place for it in Pillow's hands.
        options: how to encode.
        overwrite: replace a target that exists.
    """

    def __init__(self, path: Path, loop: int, options: WriteOptions, *, overwrite: bool) -> None:
        if options.lossless:
            raise ImageWriteError(
                f"{path}: AVIF of several frames is written with loss; use WebP or PNG for --lossless"
            )
        super().__init__(path, loop, replace(options, png_level=1), overwrite=overwrite)

    def _lost(self, info: ImageInfo) -> Iterator[str]:
        yield from extras_of("avif", info).lost
        if means_more_than_srgb(info.metadata.cicp):
            yield f"its HDR or wide colours (CICP {info.metadata.cicp}), in an AVIF of several frames; PNG holds them"

    def _publish(self) -> None:
        from PIL import Image

        self._out.flush()
        frames: Any
        with Image.open(self._file.path, formats=["PNG"]) as frames, tempfile.TemporaryFile() as file:
            delays = []
            for index in range(frames.n_frames):
                frames.seek(index)
                delays.append(round(frames.info.get("duration") or 0))
            frames.seek(0)
            extra = {"icc_profile": frames.info.get("icc_profile"), "exif": frames.info.get("exif") or b""}
            extra["xmp"] = frames.info.get("xmp") or b""
            quality = self._options.quality
            frames.save(file, "AVIF", save_all=True, duration=delays, quality=quality, subsampling="4:4:4", **extra)
            self._out.seek(0)
            self._out.truncate()
            file.seek(0)
            shutil.copyfileobj(file, self._out, 2**20)
