"""Films, encoded by FFmpeg through PyAV in segments, which are joined with the sound and text of the source at the end.

Each segment is a file of its own with the times of its frames, so that what was killed can go on behind the last whole one.
Colours go back by the matrix and range by which they came. Times are those of the source, to the tick.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ArgumentError, ImageWriteError, one_line
from sr_tile.images.formats import ImageInfo, WriteOptions
from sr_tile.images.frames.film_joiner import join, ticks_of
from sr_tile.images.frames.film_reader import ACCURATE, FilmColour, FilmReader, load_av, name_of
from sr_tile.images.frames.frame import Frame, FrameSink, InOrder, Picture, Time
from sr_tile.images.rows import Sink
from sr_tile.images.vips import reason_of
from sr_tile.system.atomic_file import AtomicFile
from sr_tile.system.part_file import create_part, remove_part


@dataclass(frozen=True)
class Codec:
    """How FFmpeg encodes.

    encoder: its name. pixels: its formats at 8 and at more bits. crf: what `quality` 95 is; None where nothing is to choose.
    container: of segments, which keeps times to the tick.
    """

    encoder: str
    pixels: tuple[str, str]
    crf: int | None
    container: str = "mp4"
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", ("yuv420p", "yuv420p10le"), 16),
    "h265": Codec("libx265", ("yuv420p", "yuv420p10le"), 18, options=(("x265-params", "log-level=error"),)),
    "av1": Codec("libsvtav1", ("yuv420p", "yuv420p10le"), 20),
    "prores": Codec("prores_ks", ("yuv422p10le", "yuv422p10le"), None, "mov", (("profile", "hq"),)),
    "ffv1": Codec("ffv1", ("yuv444p", "yuv444p10le"), None, "nut", (("level", "3"), ("slicecrc", "1"))),
}
"""Codecs of films by name."""

_MPEG4 = ("h264", "h265", "av1", "ffv1")
_CONTAINERS = {
    ".mp4": _MPEG4,
    ".m4v": _MPEG4,
    ".mov": ("h264", "h265", "prores"),
    ".mkv": ("h264", "h265", "av1", "prores", "ffv1"),
    ".webm": ("av1",),
    ".nut": ("ffv1", "h264", "h265", "av1"),
}
"""The codecs that FFmpeg puts into each, the usual one first."""
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".nut": "nut"}


def is_film(path: Path) -> bool:
    """Whether a target is to be a film, by its name."""
    return path.suffix.lower() in _CONTAINERS


def codec_of(path: Path, options: WriteOptions) -> Codec:
    """The codec of a target, which was asked for or is the container's usual one.

    Raises:
        ArgumentError: it is not known, or the container does not hold it.
    """
    held = _CONTAINERS[path.suffix.lower()]
    name = options.codec or held[0]
    if name not in CODECS:
        raise ArgumentError(f"codec {name} is not known; choose {', '.join(CODECS)}")
    if name not in held:
        others = ", ".join(suffix for suffix, codecs in _CONTAINERS.items() if name in codecs)
        raise ArgumentError(
            f"{path}: {path.suffix.lower()} does not hold {name}: choose {', '.join(held)}, or a name in {others}"
        )
    return CODECS[name]


class FilmWriter:
    """Writes films; see `FrameWriter`.

    Args:
        path: of the target.
        source: the film from which sound, text, chapters and colours come; None for an animation.
        options: `codec` and `quality`.
        overwrite: replace a target that exists.
        segments: keeps segments, where the film can go on; None for one beside the target.
    """

    def __init__(
        self,
        path: Path,
        source: FilmReader | None,
        options: WriteOptions,
        *,
        overwrite: bool,
        segments: "Segments | None" = None,
    ) -> None:
        self.path, self._source, self._options = path, source, options
        self._codec = codec_of(path, options)
        self._colour = source.colour if source else FilmColour(1, 1, 1, False, 8)
        self._segments = segments or Segments(path)
        self._encoder: _Encoder | None = None
        try:
            self._file = AtomicFile(path, overwrite=overwrite, durable=True)
        except OSError as error:
            raise self._unwritable(error) from None
        self._order: InOrder[Picture] = InOrder(self._write)

    def open_frame(self, frame: Frame, info: ImageInfo) -> Sink:
        """See `FrameWriter.open_frame`.

        Raises:
            ImageWriteError: a side is odd, or there is alpha, which no film here holds.
        """
        if info.has_alpha and not self._options.background:
            raise ImageWriteError(
                f"{self.path}: a film holds no alpha: choose WebP, PNG or GIF, or give --background white"
            )
        size = info.result
        if (size.height % 2 or size.width % 2) and "420" in self._codec.pixels[0]:
            raise ImageWriteError(
                f"{self.path}: {size.width} x {size.height}: the codec wants even sides: take another size, or --codec ffv1"
            )
        return FrameSink(frame, info, self._order)

    def skip(self, frame: Frame) -> None:
        """See `FrameWriter.skip`."""
        self._order.put(frame.index, None)

    def _write(self, picture: Picture) -> None:
        pixels_hwc = _over(self._options.background, picture.pixels_hwc)
        try:
            for time in picture.frame.times:
                if self._encoder is None:
                    size = (picture.info.height, picture.info.width)
                    look = _Look(self._codec, self._options.quality, self._colour, size, self._source)
                    self._encoder = _Encoder(self._segments.begin(), look)
                self._encoder.write(pixels_hwc, time)
                if self._segments.is_full(self._encoder.frames):
                    self._end_segment()
        except load_av().error.FFmpegError as error:
            raise self._unwritable(error) from None
        except OSError as error:
            raise self._unwritable(error) from None

    def _end_segment(self) -> None:
        if self._encoder:
            self._encoder.close()
            self._segments.end(self._encoder.last)
            self._encoder = None

    def close(self) -> None:
        """See `FrameWriter.close`."""
        try:
            self._end_segment()
            kind = _FORMATS[self.path.suffix.lower()]
            join(self._segments.paths, self._source, self._colour, self._file.path, kind, self._options)
            self._file.commit()
        except load_av().error.FFmpegError as error:
            raise self._unwritable(error) from None
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            self.abort()

    def abort(self) -> None:
        """See `FrameWriter.abort`."""
        if self._encoder:
            self._encoder.abort()
            self._encoder = None
        self._segments.abort()
        self._file.discard()

    def _unwritable(self, error: Exception) -> ImageWriteError:
        reason = reason_of(error) if isinstance(error, OSError) else one_line(error)
        return ImageWriteError(f"{self.path}: cannot be written: {reason}")


def _over(background: tuple[int, int, int] | None, pixels_hwc: np.ndarray) -> np.ndarray:
    """RGB over a background where there is alpha."""
    if pixels_hwc.shape[2] != 4 or background is None:
        return pixels_hwc
    top = np.iinfo(pixels_hwc.dtype).max
    alpha_hw1 = pixels_hwc[..., 3:] / np.float32(top)
    behind = np.asarray(background, np.float32) * np.float32(top // 255)
    return np.rint(pixels_hwc[..., :3] * alpha_hw1 + behind * (1 - alpha_hw1)).astype(pixels_hwc.dtype)


class Segments:
    """Where the parts of a film lie until they are joined.

    Args:
        target: beside which an unfinished one lies.
        frames: in each; None for a single one.
        keep: takes one that is whole, its number and the start of its last frame in seconds, and says where it lies then;
            None leaves it where it is.
        done: those that are whole already.
    """

    def __init__(
        self,
        target: Path,
        frames: int | None = None,
        keep: Callable[[Path, int, Fraction], Path] | None = None,
        done: Sequence[Path] = (),
    ) -> None:
        self._target, self._frames, self._keep = target, frames, keep
        self.paths = list(done)
        self._made: list[tuple[Path, int]] = []

    def begin(self) -> Path:
        """A file for the next one.

        Raises:
            OSError: it cannot be made.
        """
        path, descriptor = create_part(self._target)
        self._made.append((path, descriptor))
        return path

    def is_full(self, frames: int) -> bool:
        """Whether a segment of so many frames is one."""
        return self._frames is not None and frames >= self._frames

    def end(self, last: Fraction) -> None:
        """The one that was begun is whole."""
        path, _ = self._made[-1]
        self.paths.append(self._keep(path, len(self.paths), last) if self._keep else path)

    def abort(self) -> None:
        """Let go of what this process has made, but for what is kept."""
        for path, descriptor in self._made:
            remove_part(path)
            os.close(descriptor)
        self._made = []


@dataclass(frozen=True)
class _Look:
    """What all segments of a film have in common; size: (height, width)."""

    codec: Codec
    quality: int
    colour: FilmColour
    size: tuple[int, int]
    source: FilmReader | None

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick."""
        return self.source.time_base if self.source else Fraction(1, 1000)

    def put_on(self, stream: Any) -> None:
        """Prepare an encoder's stream."""
        context, source = stream.codec_context, self.source
        stream.height, stream.width = self.size
        stream.pix_fmt = self.codec.pixels[self.colour.bits > 8]
        stream.time_base = context.time_base = self.time_base
        self.colour.put_on(context)
        if source and source.aspect:
            stream.sample_aspect_ratio = source.aspect

    @property
    def options(self) -> dict[str, str]:
        """For FFmpeg's encoder."""
        options = dict(self.codec.options)
        if self.codec.crf is not None:
            # From 95 down as fast as JPEG's scale loses detail.
            options["crf"] = str(max(1, min(51, self.codec.crf + round((95 - self.quality) * 0.4))))
        return options


class _Encoder:
    """One segment."""

    def __init__(self, path: Path, look: _Look) -> None:
        self._colour, self._offset = look.colour, (look.source.start if look.source else None) or Fraction(0)
        self._time_base = look.time_base
        ticks = ticks_of(look.codec.container, look.time_base)
        self._container = load_av().open(name_of(path), "w", format=look.codec.container, options=ticks)
        rate = look.source.rate if look.source else Fraction(25)
        self._stream: Any = self._container.add_stream(look.codec.encoder, rate=rate, options=look.options)
        look.put_on(self._stream)
        self.frames, self.last = 0, Fraction(0)

    def write(self, pixels_hwc: np.ndarray, time: Time) -> None:
        """A picture."""
        av = load_av()
        frame = av.VideoFrame.from_ndarray(pixels_hwc, format="rgb48le" if pixels_hwc.dtype == np.uint16 else "rgb24")
        colour = self._colour
        frame = frame.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=colour.swscale_matrix,
            src_color_range=2,
            dst_color_range=2 if colour.is_full else 1,
            interpolation=ACCURATE,
        )
        frame.pts, frame.time_base = round((time.start - self._offset) / self._time_base), self._time_base
        frame.colorspace, frame.color_range = colour.matrix, 2 if colour.is_full else 1
        self._container.mux(self._stream.encode(frame))
        self.frames, self.last = self.frames + 1, time.start

    def close(self) -> None:
        """The segment is whole."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """It will not be."""
        self._container.close()
