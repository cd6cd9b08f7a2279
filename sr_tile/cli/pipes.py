"""`-` for standard input and output: files in between, for formats need to be gone through more than once."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sr_tile.errors import ArgumentError, ImageReadError, call
from sr_tile.system.stopping import temporary_folder

PIPE = "-"
MOST_BYTES = 2**32  # of standard input, which may have no end
_BLOCK = 2**20


@contextmanager
def piped(inputs: Sequence[str], output: str, suffix: str | None) -> Iterator[tuple[tuple[str, ...], str]]:
    """Inputs and output with files in place of `-`; what lies in the output's goes out at the end.

    Args:
        inputs: as given.
        output: as given.
        suffix: ending of the result, such as `.png`; None takes that of the input.

    Raises:
        ArgumentError: `-` stands beside other inputs, or for an output that is a terminal, or closed.
        ImageReadError: standard input cannot be read, or has too many bytes, or there is no room for them.
    """
    if PIPE not in (*inputs, output):
        yield tuple(inputs), output
        return
    if len(inputs) > 1:
        raise ArgumentError("- stands for one picture: give no other inputs beside it")
    if output == PIPE and sys.stdout.isatty():
        raise ArgumentError("output -: standard output is a terminal; add `> out.png`, or name a file")
    if output == PIPE and sys.__stdout__ is None:
        raise ArgumentError("output -: standard output is closed; add `> out.png`, or name a file")
    with temporary_folder() as folder:
        source = inputs[0]
        if source == PIPE:
            source = str(folder / "stdin")
            call(source, PIPE)
            _keep(Path(source))
        target = output
        if output == PIPE:
            target = str(folder / f"stdout{suffix or _suffix_of(source)}")
            call(target, PIPE)
        yield (source,), target
        if output == PIPE and Path(target).is_file():
            with Path(target).open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _keep(source: Path) -> None:
    """Standard input as a file."""
    from sr_tile.system.memory import format_size

    try:
        left = most = min(MOST_BYTES, shutil.disk_usage(source.parent).free // 2)
        with source.open("wb") as file:
            while block := _read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    raise ImageReadError(
                        f"-: what comes in is more than the {format_size(most)} that are taken; name the file itself, or "
                        "set TMPDIR to a folder with more room"
                    )
                file.write(block)
    except OSError as error:
        raise ImageReadError(
            f"-: what comes in cannot be kept in {source.parent}: {error.strerror}; set TMPDIR to a folder with more room"
        ) from None


def _read(size: int) -> bytes:
    try:
        return bytes(sys.stdin.buffer.read(size))
    except OSError as error:
        raise ImageReadError(f"-: cannot be read: {error.strerror}; name the file itself") from None


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
