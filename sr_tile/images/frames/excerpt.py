"""Which of a file's pictures are wanted: pages and frames by number, films by time."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sr_tile.errors import ArgumentError, ImageReadError


@dataclass(frozen=True)
class Excerpt:
    """A part of a file.

    Attributes:
        pages: pages or frames, as in `1-3,7`; numbers begin with 1. None for all.
        start: of a film, in seconds from its beginning, or as in `1:02:03.5`; None for the beginning.
        end: the first moment of a film that is left out; None for its end.
        crop: (x, y, width, height) of a window of a picture, in pixels; None for all of it.

    Raises:
        ArgumentError: one of them says something else, or there is nothing in between.
    """

    pages: str | None = None
    start: str | None = None
    end: str | None = None
    crop: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        for first, last in self._parts():
            if not 1 <= first <= last:
                raise ArgumentError(
                    f"--pages {self.pages}: {first}-{last} is no range; the first page is 1, as in 1-3,7"
                )
        if self.crop and (min(self.crop) < 0 or min(self.crop[2:]) < 1):
            raise ArgumentError(f"--crop {','.join(map(str, self.crop))} is no window; give X,Y,WIDTH,HEIGHT in pixels")
        first_second, last_second = self.seconds
        if last_second is not None and last_second <= (first_second or 0):
            raise ArgumentError(f"--end {self.end} is not behind --start {self.start or 0}")

    def _parts(self) -> list[tuple[int, int]]:
        if self.pages is None:
            return []
        parts = [re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9}))?\s*", part) for part in self.pages.split(",")]
        if not all(parts):
            raise ArgumentError(f"--pages {self.pages}: give numbers and ranges, as in 1-3,7")
        return [(int(part[1]), int(part[2] or part[1])) for part in parts if part]

    @property
    def seconds(self) -> tuple[Fraction | None, Fraction | None]:
        """Start and end, exactly."""
        return _seconds("--start", self.start), _seconds("--end", self.end)

    def indices(self, path: Path, count: int) -> list[int]:
        """Of pages, from 0, in the order of the file.

        Raises:
            ImageReadError: the file has fewer, or no times.
        """
        if self.start is not None or self.end is not None:
            raise ImageReadError(f"{path}: is no film: --start and --end say nothing here, --pages chooses")
        if self.pages is None:
            return list(range(count))
        parts = self._parts()
        if max(last for _, last in parts) > count:
            held = "one page or frame" if count == 1 else f"{count} pages or frames"
            raise ImageReadError(f"{path}: holds {held}; --pages {self.pages} asks for more")
        return sorted({page - 1 for first, last in parts for page in range(first, last + 1)})


def parse_window(text: str) -> tuple[int, int, int, int]:
    """(x, y, width, height) of `X,Y,W,H`.

    Raises:
        ArgumentError: it is none.
    """
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text.replace(" ", ""))
    if match is None:
        raise ArgumentError(f"--crop {text}: give X,Y,WIDTH,HEIGHT in pixels, such as 0,0,512,512")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def _seconds(name: str, text: str | None) -> Fraction | None:
    if text is None:
        return None
    if not re.fullmatch(r"(\d{1,4}:)?(\d{1,4}:)?\d{1,9}(\.\d{1,9})?", text):
        raise ArgumentError(f"{name} {text} is no time; give seconds, or as in 1:02:03.5")
    total = Fraction(0)
    for part in text.split(":"):
        total = total * 60 + Fraction(part)
    return total
