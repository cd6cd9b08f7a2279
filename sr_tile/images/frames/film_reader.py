"""Frames of films, decoded by FFmpeg through PyAV: turned as their file says, in RGB of 8 or 16 bits, each with its time."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ImageReadError, one_line
from sr_tile.images.formats import Metadata
from sr_tile.images.frames.frame import Frame, Time, merged

log = logging.getLogger("sr_tile")

_BT709, _BT601, _BT2020 = 1, 5, 9  # libswscale's numbers of matrices
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: _BT2020, 10: _BT2020}  # by ITU-T H.273
_HD_ROWS = 720
# Bicubic chroma, and no shortcut in it.
ACCURATE = 4 | 8192 | 16384 | 262144 | 524288  # BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP, ACCURATE_RND, BITEXACT


def load_av() -> Any:
    """PyAV.

    Raises:
        ImageReadError: it is not installed.
    """
    os.environ.setdefault("SVT_LOG", "1")  # errors alone: the encoder of AV1 writes to the terminal by itself
    try:
        import av
    except ImportError:
        raise ImageReadError("films need PyAV: pip install 'sr-tile[video]'") from None
    av.logging.set_level(None)  # a library's words are not ours; errors come as exceptions
    return av


def name_of(path: Path) -> str:
    """A file as FFmpeg takes it: one that begins with what looks like a protocol is a file all the same."""
    return str(path.absolute())


def open_film(path: Path) -> Any:
    """A container, open for reading; it opens no other file and no socket, whatever it says.

    Raises:
        av.FFmpegError: it is none.
    """
    return load_av().open(name_of(path), metadata_errors="replace", options={"protocol_whitelist": "file"})


@dataclass(frozen=True)
class FilmColour:
    """How a film's luma and chroma stand for colours, in the numbers of ITU-T H.273; 2 is unknown.

    Attributes:
        matrix: of luma and chroma. One that is not said is BT.601 below 720 rows, else BT.709, as players take it.
        primaries: of the colours.
        transfer: from light to values.
        is_full: whether values have their full range, not 16 to 235.
        bits: of a sample.
    """

    matrix: int
    primaries: int
    transfer: int
    is_full: bool
    bits: int

    @property
    def swscale_matrix(self) -> int:
        """The number that libswscale has for the matrix."""
        return _MATRICES.get(self.matrix, _BT709)

    def put_on(self, context: Any) -> None:
        """Tell it to a codec."""
        context.colorspace, context.color_primaries = self.matrix, self.primaries
        context.color_trc, context.color_range = self.transfer, 2 if self.is_full else 1


class FilmReader:
    """Reads films; see `FrameReader`.

    Args:
        path: of the file.
        start: of the first frame in seconds, None for the beginning.
        end: before which frames are shown, in seconds; None for the end.

    Attributes:
        colour: see `FilmColour`.
        rate: frames per second, on average.
        time_base: of the times.

    Raises:
        ImageReadError: it holds no film that FFmpeg reads, or an interlaced one.
    """

    keeps_going, total_bytes, timing = False, 0, None

    def __init__(self, path: Path, start: Fraction | None = None, end: Fraction | None = None) -> None:
        self.path, self.start, self.end = path, start, end
        self._from: Fraction | None = None
        container = self._open()
        try:
            stream = self._stream(container)
            context = stream.codec_context
            frame = next(self._decoded(container, stream), None)
            if frame is None:
                raise ImageReadError(f"{path}: holds no picture{' from --start on' if start else ''}")
            if frame.interlaced_frame:
                raise ImageReadError(
                    f"{path}: is interlaced: make whole frames of it first, as with ffmpeg -i {path.name} -vf bwdif out.mkv"
                )
            if (context.sample_aspect_ratio or 1) != 1:
                log.warning("%s: its pixels are not square (%s); they are kept so", path, context.sample_aspect_ratio)
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.time_base, self.aspect = Fraction(stream.time_base), context.sample_aspect_ratio
            self.colour = _colour_of(frame)
            length = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
            length = min(length, float(end)) if end else length
            self.count = max(2, round(max(0.0, length - float(start or 0)) * float(self.rate)))
        except load_av().error.FFmpegError as error:
            raise self._damaged(error) from None
        finally:
            container.close()

    def _open(self) -> Any:
        try:
            return open_film(self.path)
        except load_av().error.FFmpegError as error:
            raise ImageReadError(
                f"{self.path}: not a film that FFmpeg reads, or a damaged one: {_reason(error)}"
            ) from None

    def _stream(self, container: Any) -> Any:
        """The film; pictures of covers are none."""
        av = load_av()
        cover = av.stream.Disposition.attached_pic
        found = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not found:
            raise ImageReadError(f"{self.path}: holds no film: sound or text alone")
        if len(found) > 1:
            log.warning("%s: holds %d films; the first is taken", self.path, len(found))
        found[0].thread_type = "AUTO"
        return found[0]

    def go_on_after(self, seconds: Fraction | None) -> None:
        """Let `frames` begin behind the one that starts then, where that is done; None takes it back."""
        self._from = seconds

    def frames(self) -> Iterator[Frame]:
        """See `FrameReader.frames`."""
        yield from merged(self._read(), Metadata())

    def _read(self) -> Iterator[tuple[np.ndarray, Time]]:
        container = self._open()
        try:
            for number, frame in enumerate(self._decoded(container, self._stream(container)), 1):
                duration = Fraction(frame.duration or 0) * frame.time_base or 1 / self.rate
                yield self._rgb(frame, number), Time(_seconds(frame), duration)
        except load_av().error.FFmpegError as error:
            raise self._damaged(error) from None
        finally:
            container.close()

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """The frames that are wanted, in the order in which they are shown."""
        if start := max((time for time in (self.start, self._from) if time is not None), default=None):
            container.seek(int(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is None:
                raise ImageReadError(f"{self.path}: has frames without a time")
            seconds = _seconds(frame)
            if (self.start is not None and seconds < self.start) or (self._from is not None and seconds <= self._from):
                continue
            if self.end is not None and seconds >= self.end:
                return
            yield frame

    def _rgb(self, frame: Any, number: int) -> np.ndarray:
        if frame.is_corrupt:
            raise ImageReadError(f"{self.path}: damaged at frame {number}")
        rgb = frame.reformat(
            format="rgb48le" if self.colour.bits > 8 else "rgb24",
            src_colorspace=self.colour.swscale_matrix,
            src_color_range=2 if self.colour.is_full else 1,
            dst_color_range=2,
            interpolation=ACCURATE,
        )
        pixels_hwc = rgb.to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels_hwc, turns)) if turns else pixels_hwc

    def _damaged(self, error: Exception) -> ImageReadError:
        return ImageReadError(f"{self.path}: damaged: {_reason(error)}")

    def close(self) -> None:
        """Each walk through the frames closes its own file."""


def _seconds(frame: Any) -> Fraction:
    return frame.pts * Fraction(frame.time_base)


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)


def _colour_of(frame: Any) -> FilmColour:
    matrix = int(frame.colorspace)
    components = frame.format.components
    bits = max(component.bits for component in components)
    is_rgb = frame.format.is_rgb
    if matrix in (2, 3) or is_rgb:
        matrix = 1 if frame.height >= _HD_ROWS else 6
    is_full = int(frame.color_range) == 2 or is_rgb or frame.format.name.startswith("yuvj")
    return FilmColour(matrix, int(frame.color_primaries), int(frame.color_trc), is_full, bits)
