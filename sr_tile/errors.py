"""Every error that sr-tile raises on purpose.

    SrTileError
    ├── ArgumentError        a value that the caller gave: shape, dtype, option  (also a ValueError)
    │   └── GeometryError    tile, overlap, halo and image do not fit together
    ├── ImageError           a file of pixels
    │   ├── ImageReadError   missing, corrupt, truncated, not supported
    │   └── ImageWriteError  exists already, no room, a format that cannot hold the pixels
    ├── ModelError           a model file
    │   ├── ModelLoadError   not ONNX, wrong inputs or layout
    │   │   └── UnknownModelError  no model has this name  (also an ArgumentError)
    │   ├── ModelOutputError another scale than claimed, NaN, wrong shape
    │   │   └── ModelTimeoutError  a call that does not end  (also a TimeoutError)
    │   └── PrecisionLossError  fewer bits lose more than they may
    ├── DownloadError        a file of the zoo could not be had, or is not the one that was published
    ├── DeviceError          the device asked for cannot be had
    ├── OutOfMemoryError     the device ran out of memory, smaller work may fit
    ├── ServingError         a request to a shared model got no answer
    │   ├── Overloaded       its queue is full: try again later
    │   ├── DeadlineError    its time ran out  (also a TimeoutError)
    │   └── StoppedError     the server stopped, or the request was cancelled
    ├── JobError             the folder of a durable job cannot be used
    └── CoverageError        a pixel was left without a tile: a defect of ours

A message is one line: what happened, where, the bound that was broken, what to do next.
"""

import logging
import re
import unicodedata
from pathlib import Path

log = logging.getLogger("sr_tile")


MOST_CHARACTERS = 1200  # of a message: a model may call a tensor by a name of a megabyte


class SrTileError(Exception):
    """Base of all errors of this package; the command line prints it as one line, and exits with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        return shortened(printable(super().__str__()), MOST_CHARACTERS)


class ArgumentError(SrTileError, ValueError):
    """A value given by the caller is wrong: for the command line, wrong usage."""

    exit_code = 2


class GeometryError(ArgumentError):
    """Tile, overlap, halo and image do not fit together."""


class ImageError(SrTileError):
    """An image file cannot be used."""


class ImageReadError(ImageError):
    """An image file is missing, corrupt, truncated or of a kind that is not supported."""


class ImageWriteError(ImageError):
    """An image file cannot be written."""


class ModelError(SrTileError):
    """A model file cannot be used."""


class ModelLoadError(ModelError):
    """A model file is not ONNX, or has inputs that are not one NCHW picture."""


class UnknownModelError(ModelLoadError, ArgumentError):
    """No model has this name."""


class ModelOutputError(ModelError):
    """A model returned something else than its scale and shape promise, or a value that is no number."""


class ModelTimeoutError(ModelOutputError, TimeoutError):
    """A call of a model did not end in any time that is sound."""


class PrecisionLossError(ModelError):
    """A model in fewer bits loses more than the caller allows."""


class DownloadError(SrTileError):
    """A file could not be downloaded, or is not the one that was published."""


class DeviceError(SrTileError):
    """The device or provider that was asked for cannot be had."""


class OutOfMemoryError(SrTileError):
    """The device ran out of memory; a smaller batch or tile may fit."""


class ServingError(SrTileError):
    """A request to a shared model got no answer."""


class Overloaded(ServingError):  # noqa: N818  # what a server is, and what it says to its callers
    """The queue is full; the same request may succeed later."""


class DeadlineError(ServingError, TimeoutError):
    """The request's time ran out before its answer came."""


class StoppedError(ServingError):
    """The server is not running, or the request was cancelled."""


class JobError(SrTileError):
    """The folder of a durable job is missing, damaged, or in use by another process."""


class CoverageError(SrTileError):
    """A pixel was finished without full weight: a defect of sr-tile, never of the input."""


_SPOKEN: dict[str, str] = {}


def call(path: str, name: str) -> None:
    """Let messages call a file by another name, such as `-` for one that stands for a pipe, from now on."""
    _SPOKEN[path] = name


def printable(text: str) -> str:
    r"""The text on one line, without what a terminal would obey: file names and models' metadata come from anyone.

    >>> print(printable("a\x1b]0;b\nc"))
    a\x1b]0;b\nc

    Control characters, lone surrogates (bytes of a file name that are no text) and marks that turn the direction of
    writing become escapes, as Python writes them.
    """
    for path, name in _SPOKEN.items():
        text = text.replace(path, name)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode()
        for char in text
    )


_CPP_SIGNATURE = re.compile(r"(?<![/\w.-])[/\w.-]*\.(?:cc|h|cpp|cu|cuh|hpp):\d+ [^()]*\([^()]*\)(?: const)? ")


def one_line(error: Exception, most: int = 300) -> str:
    """What a library's error says, without line breaks; of more than `most` characters the middle is cut.

    ONNX Runtime puts the signature of the C++ function that failed before the reason: that is left out.
    """
    return shortened(printable(_CPP_SIGNATURE.sub("", " ".join(str(error).split()))), most)


def shortened(text: str, most: int) -> str:
    """The text; of more than `most` characters the middle is cut."""
    head = most // 3
    return text if len(text) <= most else f"{text[:head]}...{text[head - most :]}"


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says, or its kind where it says nothing."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:200])


_GRANTED = (
    "can't start new thread",
    "pthread_create",
    "failed to map segment",
    "annot allocate memory",
    "error return without exception",  # as Python says it, where it finds no memory for an exception either
    "NULL without setting an exception",
)
_RAISE = "raise `ulimit -u`, `-v` and `-d`, or end other programs"


def granted(error: BaseException) -> bool:
    """Whether an error says that the system gives this process what it has asked for: no thread or memory is refused."""
    return not any(sign in str(error) for sign in _GRANTED)


def _has_no_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def unexpected(error: BaseException) -> str:
    """What to say of an error that is not ours: the machine's, or a defect, which is to be reported.

    >>> unexpected(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, FileNotFoundError) and not error.filename and _has_no_folder():
        return "the current folder was removed; go to another one, or name files by their whole paths"
    if isinstance(error, OSError) and error.strerror:
        return printable(": ".join(str(part) for part in (error.filename, error.strerror) if part))
    if not granted(error):
        return f"the system grants this process no more threads or memory ({one_line(Exception(error), 120)}); {_RAISE}"
    return (
        f"{type(error).__name__}: {one_line(Exception(error))}; sr-tile did not expect this: please report it with your "
        "command, and with the traceback that --debug shows, where you have sr-tile from"
    )


DEFECTS = (ArithmeticError, AttributeError, BufferError, EOFError, LookupError, RuntimeError, TypeError, ValueError)
"""What a defect of ours, or of a library, raises: it fails the image that shows it, and the others go on."""


def unexpected_of(name: str, error: BaseException) -> SrTileError:
    """An error that is not ours as the failure of one image."""
    log.debug("%s", name, exc_info=error)
    return ImageError(f"{name}: {unexpected(error)}")
