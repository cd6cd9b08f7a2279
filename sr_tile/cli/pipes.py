"""`-` for standard input and output: files in between, for formats need to be gone through more than once."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sr_tile.errors import ArgumentError, ImageReadError, call

PIPE = "-"


@contextmanager
def piped(inputs: Sequence[str], output: str, suffix: str | None) -> Iterator[tuple[tuple[str, ...], str]]:
    """Inputs and output with files in place of `-`; what lies in the output's goes out at the end.

    Args:
        inputs: as given.
        output: as given.
        suffix: ending of the result, such as `.png`; None takes that of the input.

    Raises:
        ArgumentError: `-` stands beside other inputs, or for a result of several.
    """
    if PIPE not in (*inputs, output):
        yield tuple(inputs), output
        return
    if len(inputs) > 1:
        raise ArgumentError("- stands for one picture: give no other inputs beside it")
    if output == PIPE and sys.stdout.isatty():
        raise ArgumentError("output -: standard output is a terminal; add `> out.png`, or name a file")
    with tempfile.TemporaryDirectory(prefix="sr-tile-") as folder:
        source = inputs[0]
        if source == PIPE:
            source = str(Path(folder, "stdin"))
            call(source, PIPE)
            try:
                with Path(source).open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
            except OSError as error:
                raise ImageReadError(
                    f"-: what comes in cannot be kept in {folder}: {error.strerror}; set TMPDIR to a folder with more room"
                ) from None
        target = output
        if output == PIPE:
            target = str(Path(folder, f"stdout{suffix or _suffix_of(source)}"))
            call(target, PIPE)
        yield (source,), target
        if output == PIPE and Path(target).is_file():
            with Path(target).open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _suffix_of(source: str) -> str:
    """The ending for a result of the same format."""
    from sr_tile.images.content_type import format_by_content
    from sr_tile.images.formats import FILES

    try:
        with Path(source).open("rb") as file:
            kind = format_by_content(file.read(64))
    except OSError:
        kind = None  # reading it will say why
    return FILES[kind].suffixes[0] if kind in FILES else ".png"
