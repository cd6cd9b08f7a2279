"""What a frame is, and what reads and writes several of them."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.images.formats import ImageInfo, Metadata
from sr_tile.images.rows import Sink, Source


class Time(NamedTuple):
    """When a frame is shown, in seconds, exactly."""

    start: Fraction = Fraction(0)
    duration: Fraction = Fraction(0)


@dataclass(frozen=True)
class Frame:
    """One picture of a file that holds several.

    Attributes:
        index: its place among those that are done, from 0.
        name: what messages call it, such as `page 3`.
        open_source: starts reading it; it may be called again when it has to start afresh.
        times: when it is shown: more than once where its neighbours are equal to it. Empty for pages.
    """

    index: int
    name: str
    open_source: Callable[[], Source]
    times: tuple[Time, ...] = ()


@dataclass(frozen=True)
class Timing:
    """delays: of all frames of an animation, in milliseconds; loop: times that all are shown, 0 for ever."""

    delays: tuple[int, ...]
    loop: int


class FrameReader(Protocol):
    """An open file of several pictures."""

    @property
    def count(self) -> int | None:
        """Pictures, before equal neighbours are merged; None where only reading to the end tells."""
        ...

    @property
    def timing(self) -> Timing | None:
        """Of an animation; None where pictures have no times."""
        ...

    @property
    def total_bytes(self) -> int:
        """Of the pixels of all, about; 0 where nobody needs to know."""
        ...

    @property
    def keeps_going(self) -> bool:
        """Whether a picture that fails leaves the others as they are."""
        ...

    def frames(self) -> Iterator[Frame]:
        """The pictures in order; each may be read until the next but some is asked for, from any thread."""
        ...

    def close(self) -> None:
        """No more are wanted."""
        ...


class FrameWriter(Protocol):
    """A file of several pictures that appears when it is whole."""

    def open_frame(self, frame: Frame, info: ImageInfo) -> Sink:
        """A sink for one picture; several may be open at a time, and close in any order."""
        ...

    def skip(self, frame: Frame) -> None:
        """There will be no such picture."""
        ...

    def close(self) -> None:
        """All pictures were written: give the file its name."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; harmless after `close`."""
        ...


_Item = TypeVar("_Item")


class InOrder(Generic[_Item]):
    """Hands items on in the order of their numbers, whatever order they come in."""

    def __init__(self, take: Callable[[_Item], None]) -> None:
        self._take, self._next, self._lock = take, 0, threading.Lock()
        self._waiting: dict[int, _Item | None] = {}
        self._failure: Exception | None = None

    def put(self, number: int, item: _Item | None) -> None:
        """Hand on an item once all before it were; None stands for one that will not come.

        Raises:
            Exception: what `take` raised, now or before.
        """
        with self._lock:
            self._waiting[number] = item
            while self._next in self._waiting:
                following = self._waiting.pop(self._next)
                self._next += 1
                if self._failure:
                    raise self._failure
                try:
                    if following is not None:
                        self._take(following)
                except Exception as error:
                    self._failure = error
                    raise

    def left(self) -> list[_Item]:
        """Those that wait for others, and are handed on no more."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        return [item for item in waiting.values() if item is not None]


class Picture(NamedTuple):
    """A whole frame as it is written."""

    frame: Frame
    info: ImageInfo
    pixels_hwc: np.ndarray


class FrameSource(ArraySource):
    """Reads the rows of a frame, of which the decoder holds its own, the one before and the one behind."""

    def __init__(self, pixels_hwc: np.ndarray, metadata: Metadata) -> None:
        super().__init__(pixels_hwc, metadata)
        self.whole_bytes = 3 * pixels_hwc.nbytes


class FrameSink(ArraySink):
    """Collects the rows of a frame, and hands it on when it is whole."""

    def __init__(self, frame: Frame, info: ImageInfo, order: InOrder[Picture]) -> None:
        super().__init__(info)
        self._frame, self._info, self._order = frame, info, order
        self.whole_bytes = self.pixels_hwc.nbytes

    def close(self) -> None:
        """The frame is whole; waits while the encoder is behind."""
        super().close()
        self._order.put(self._frame.index, Picture(self._frame, self._info.result, self.pixels_hwc))


def merged(frames: Iterable[tuple[np.ndarray, Time]], metadata: Metadata) -> Iterator[Frame]:
    """Frames, of equal neighbours only the first, with the times of all.

    Args:
        frames: (height, width, channels) and when each is shown.
        metadata: of all.
    """

    def frame(index: int, number: int, pixels_hwc: np.ndarray, times: list[Time]) -> Frame:
        return Frame(index, f"frame {number}", lambda: FrameSource(pixels_hwc, metadata), tuple(times))

    held: tuple[int, np.ndarray, list[Time]] | None = None
    indices = itertools.count()
    for number, (pixels_hwc, time) in enumerate(frames, 1):
        if held and held[1].shape == pixels_hwc.shape and np.array_equal(held[1], pixels_hwc):
            held[2].append(time)
            continue
        if held:
            yield frame(next(indices), *held)
        held = (number, pixels_hwc, [time])
    if held:
        yield frame(next(indices), *held)
