"""Segments of a film, and what of its source is no film, to one file; nothing is encoded again."""

import logging
import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from sr_tile.images.formats import WriteOptions
from sr_tile.images.frames.film_reader import FilmColour, FilmReader, load_av, name_of, open_film
from sr_tile.images.metadata_choices import of_film

log = logging.getLogger("sr_tile")

_TICKING = ("mp4", "mov")
_TEXTS = ("srt", "subrip", "text")
"""Subtitles in words, which Matroska holds as they are and QuickTime's family as `mov_text`: their length, then they."""
_MARKUP = re.compile(rb"</?\w[^>]*>|\{\\[^}]*\}")


def ticks_of(format_name: str, time_base: Fraction) -> dict[str, str]:
    """FFmpeg's option to keep times to the tick."""
    return {"video_track_timescale": str(time_base.denominator)} if format_name in _TICKING else {}


def join(
    segments: Sequence[Path],
    source: FilmReader | None,
    colour: FilmColour,
    target: Path,
    format_name: str,
    choices: WriteOptions,
) -> None:
    """Segments, and what of the source is no film (sound, text, fonts, chapters, names), copied as they are.

    Args:
        segments: in their order.
        source: that they were made of.
        colour: of the film.
        target: the result, which may be there and is replaced.
        format_name: FFmpeg's, of the container.
        choices: what is left out of the film's tags, or written into them.
    """
    av = load_av()
    options = {"fflags": "+bitexact"}  # no random numbers, no date
    if format_name in _TICKING:
        options["movflags"] = "+faststart"  # offsets go before the pictures, as services want it that stream
    options |= ticks_of(format_name, source.time_base if source else Fraction(1, 1000))
    with av.open(name_of(target), "w", format=format_name, options=options) as out:
        with open_film(segments[0]) as first:
            film = out.add_stream_from_template(first.streams.video[0], opaque=True)
            colour.put_on(film.codec_context)  # not every container of segments keeps it
        copied = _Copied(source, out, choices) if source else None
        if source is None:
            out.metadata.update(of_film({}, choices))
        last = None
        for path in segments:
            with open_film(path) as segment:
                for packet in segment.demux(segment.streams.video[0]):
                    if packet.dts is None:
                        continue
                    # Segments begin with pictures that are decoded ahead of their time.
                    if last is not None and packet.dts <= last:
                        packet.dts = last + 1
                    last = packet.dts
                    if copied:
                        copied.until(packet.dts * packet.time_base)
                    packet.stream = film
                    out.mux_one(packet)
        if copied:
            copied.close()


class _Copied:
    """Streams that are taken as they are, packet by packet beside the film."""

    def __init__(self, source: FilmReader, target: Any, choices: WriteOptions) -> None:
        self._source, self._target = source, target
        self._container = open_film(source.path)
        target.metadata.update(of_film(self._container.metadata, choices))
        self._streams: dict[int, Any] = {}
        self._texts: set[int] = set()
        for stream in self._container.streams:
            if stream.type in ("audio", "subtitle", "attachment"):
                try:
                    if stream.name in _TEXTS and target.format.name in _TICKING:
                        copy = target.add_stream("mov_text")
                        copy.codec_context.subtitle_header = b"[Script Info]\n"  # no style: FFmpeg wants one or none
                        self._texts.add(stream.index)
                    else:
                        copy = target.add_stream_from_template(stream, opaque=True)
                    language = {name: text for name, text in stream.metadata.items() if name == "language"}
                    copy.metadata.update(language if choices.strip == "all" else stream.metadata)
                    self._streams[stream.index] = copy
                except (ValueError, load_av().error.FFmpegError):
                    what = f"{stream.type} ({stream.name})"
                    log.warning("%s: %s does not hold its %s, which is left out", source.path, target.format.name, what)
        if source.start is None and source.end is None:
            target.set_chapters(self._container.chapters())
        wanted = [stream for stream in self._container.streams if stream.index in self._streams]
        self._packets = self._container.demux(wanted) if wanted else iter(())
        self._next: Any = next(self._packets, None)

    def until(self, seconds: Fraction) -> None:
        """Copy what comes before, by the time in the result."""
        offset = self._source.start or Fraction(0)
        while self._next and (self._next.dts is None or self._next.dts * self._next.time_base - offset <= seconds):
            self._copy()

    def _copy(self) -> None:
        packet: Any = self._next
        self._next = next(self._packets, None)
        if packet.dts is None:  # the end of a stream
            return
        seconds, offset = packet.pts * packet.time_base, self._source.start or Fraction(0)
        # Sound begins before 0 by what its decoder needs to get going.
        if (self._source.start is None or seconds >= offset) and (
            self._source.end is None or seconds < self._source.end
        ):
            shift = round(offset / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            index = packet.stream.index
            packet = _mov_text(packet) if index in self._texts else packet
            packet.stream = self._streams[index]
            self._target.mux_one(packet)

    def close(self) -> None:
        """Copy the rest."""
        while self._next is not None:
            self._copy()
        self._container.close()


def _mov_text(packet: Any) -> Any:
    """The words of a packet, without their markup, for QuickTime's family."""
    words = _MARKUP.sub(b"", bytes(packet))
    made = load_av().Packet(struct.pack(">H", len(words)) + words)
    made.time_base, made.pts, made.dts, made.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    return made
