"""Frames of GIF, APNG, animated WebP and AVIF, which Pillow reads, composed as viewers show them; writes GIF and WebP."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ImageReadError, ImageWriteError
from sr_tile.images.formats import Animation, ImageInfo, Metadata, WriteOptions
from sr_tile.images.frames.frame import Frame, FrameSink, InOrder, Picture, Time, Timing, merged
from sr_tile.images.pillow_decoder import what_is_wrong
from sr_tile.images.png_chunks import read_png
from sr_tile.images.rows import Sink
from sr_tile.images.writer import ImageWriter

_PILLOW_NAMES = {"gif": "GIF", "png": "PNG", "webp": "WEBP", "avif": "AVIF"}


class AnimationReader:
    """Reads GIF, APNG, WebP and AVIF; see `FrameReader`.

    Args:
        path: of the file.
        kind: gif, png, webp or avif.
        wanted: which frames, from 0; None for all.

    Raises:
        ImageReadError: it is damaged.
    """

    keeps_going, total_bytes = False, 0

    def __init__(self, path: Path, kind: str, wanted: Sequence[int] | None = None) -> None:
        self._path, self._kind = path, kind
        self._canvas: tuple[int, ...] | None = None
        self._image = self._open()
        # The default image of an APNG that is no frame of it is not shown.
        self._first = int(bool(self._image.info.get("default_image")))
        self._wanted = range(self._image.n_frames - self._first) if wanted is None else wanted
        self.count = len(self._wanted)

    def _open(self) -> Any:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image: Any = Image.open(self._path, formats=[_PILLOW_NAMES[self._kind]])
                image.n_frames  # noqa: B018  # counted by looking through the file
                return image
        except Exception as error:  # Pillow's plugins raise whatever a damaged file leads them to
            raise ImageReadError(f"{self._path}: {what_is_wrong(error, self._path, self._kind)}") from None

    @property
    def timing(self) -> Timing:
        """Of all frames."""
        return self._survey[0]

    @functools.cached_property
    def _survey(self) -> tuple[Timing, bool]:
        """Times, and whether something shines through; decodes all frames for it, which each have a say."""
        delays, transparent = [], False
        with self._open() as image:  # its own: another thread may be at `frames`
            loop = self._loop(image)
            for pixels_hwc, time in self._read(image):
                delays.append(round(time.duration * 1000))
                transparent = transparent or (pixels_hwc.shape[2] == 4 and pixels_hwc[..., 3].min() < 255)
        return Timing(tuple(delays), loop), transparent

    def _loop(self, image: Any) -> int:
        loop = image.info.get("loop")
        if self._kind == "gif":  # which says how often it is repeated
            return 1 if loop is None else loop and loop + 1
        return int(loop or 0)

    def frames(self) -> Iterator[Frame]:
        """See `FrameReader.frames`."""
        _, transparent = self._survey
        frames = (
            (pixels_hwc if transparent else pixels_hwc[..., :3], time) for pixels_hwc, time in self._read(self._image)
        )
        yield from merged(frames, self._metadata())

    def _metadata(self) -> Metadata:
        info = self._image.info
        if self._kind == "png":
            header = read_png(self._path)
            exif = b"Exif\0\0" + header.exif if header.exif else None
            metadata = Metadata(icc=info.get("icc_profile"), exif=exif, xmp=header.xmp, text=tuple(header.text))
            return replace(metadata, cicp=header.cicp, png_colour=header.colour)
        return Metadata(icc=info.get("icc_profile"), exif=info.get("exif") or None, xmp=info.get("xmp"))

    def _read(self, image: Any) -> Iterator[tuple[np.ndarray, Time]]:
        start = Fraction(0)
        for index in self._wanted:
            try:
                image.seek(index + self._first)
                pixels_hwc = self._on_canvas(np.array(image.convert("RGBA")))
            except Exception as error:  # as above
                wrong = what_is_wrong(error, self._path, self._kind)
                raise ImageReadError(f"{self._path}: damaged at frame {index + 1}: {wrong}") from None
            duration = Fraction(image.info.get("duration") or 0).limit_denominator(1000) / 1000
            yield pixels_hwc, Time(start, duration)
            start += duration

    def _on_canvas(self, pixels_hwc: np.ndarray) -> np.ndarray:
        """Cut to the size of the first frame, as browsers do with frames of a GIF that reach beyond it."""
        self._canvas = self._canvas or pixels_hwc.shape[:2]
        height, width = self._canvas
        return pixels_hwc[:height, :width]

    def close(self) -> None:
        """See `FrameReader.close`."""
        self._image.close()


class AnimationWriter:
    """Writes GIF and WebP as one high image; see `FrameWriter`.

    Args:
        path: of the target.
        info: of a frame.
        timing: of all frames.
        options: how to encode.
        overwrite: replace a target that exists.
    """

    def __init__(self, path: Path, info: ImageInfo, timing: Timing, options: WriteOptions, *, overwrite: bool) -> None:
        info = info.result
        self._path, self._size = path, (info.height, info.width, info.channels)
        animation = Animation(info.height, timing.delays, timing.loop)
        rows = replace(info, height=info.height * len(timing.delays))
        self._writer = ImageWriter(path, rows, options=replace(options, animation=animation), overwrite=overwrite)
        self._order: InOrder[Picture] = InOrder(self._write)

    def open_frame(self, frame: Frame, info: ImageInfo) -> Sink:
        """See `FrameWriter.open_frame`.

        Raises:
            ImageWriteError: frames differ in size or channels.
        """
        info = replace(info, dtype=np.dtype(np.uint8))
        if (info.result.height, info.result.width, info.channels) != self._size:
            raise ImageWriteError(
                f"{self._path}: {frame.name} has another size than those before; split the file first"
            )
        return FrameSink(frame, info, self._order)

    def _write(self, picture: Picture) -> None:
        for _ in picture.frame.times:
            self._writer.write_rows(picture.pixels_hwc)

    def skip(self, frame: Frame) -> None:
        """See `FrameWriter.skip`."""
        self._order.put(frame.index, None)

    def close(self) -> None:
        """See `FrameWriter.close`."""
        self._writer.close()

    def abort(self) -> None:
        """See `FrameWriter.abort`."""
        self._writer.abort()
