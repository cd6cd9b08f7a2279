"""Errors as a client may see them: a status, a code for programs, and one line for people that names no path."""

import errno
import re
from typing import Any

from sr_tile.errors import (
    ArgumentError,
    ImageReadError,
    ImageWriteError,
    OutOfMemoryError,
    Overloaded,
    ServingError,
    SrTileError,
)
from sr_tile.images.content_type import CHOOSE_PAGE

_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\\/\s:'\"]+[\\/])+")
_REASON = re.compile(r"((?:damaged(?: one)?|not supported)(?: near row \d+ of \d+)?): .*")  # a library's own words
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
_NO_SPACE = re.compile("no space|disk full|quota|file too large", re.I)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNUSABLE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)

MEANINGS = {
    400: "the request is no well-formed upload",
    401: "no token, or a wrong one",
    403: "sent by a page of another site, or under a name that is not this server's",
    404: "there is no such thing, or not any more",
    408: "the upload was too slow, or stopped",
    409: "the result is not there yet",
    413: "too many bytes or pixels, or too long a side",
    415: "none of the image formats that are read here",
    422: "an option is out of its range, or the image is damaged or cannot be stored as asked",
    429: "too many images of this client are under way",
    500: "the model failed, or the server has a defect",
    503: "busy, out of memory, loading or stopping; Retry-After says when to try again",
    507: "the server's disk is full, or its folder for uploads cannot be used",
}


class HttpError(SrTileError):  # an answer
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        code: for programs.
        message: one line for people.
        retry_after: seconds after which trying again makes sense.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"code": self.code, "message": str(self)}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {**headers, "WWW-Authenticate": "Bearer"} if self.status == 401 else headers


def http_error_of(error: BaseException, names: dict[str, str] | None = None) -> HttpError:
    """What a client is told of an error.

    Args:
        error: what went wrong.
        names: what stands for a path in messages: {"/tmp/a/source": "photo.png"}.
    """
    if isinstance(error, HttpError):
        return error
    if not isinstance(error, SrTileError):
        if isinstance(error, OSError) and (refusal := _of_the_system(error)):
            return refusal
        if isinstance(error, MemoryError):
            return HttpError(503, "out_of_memory", "the server has no memory left for this image", retry_after=10)
        return HttpError(500, "internal", "something went wrong inside the server; its log says what")
    message = _for_a_client(str(error), names or {})
    if isinstance(error, OutOfMemoryError):
        return HttpError(503, "out_of_memory", message, retry_after=10)
    if isinstance(error, Overloaded):
        return HttpError(503, "busy", message, retry_after=2)
    if isinstance(error, ServingError):
        return HttpError(503, "stopping", message, retry_after=10)
    if isinstance(error, ImageReadError):
        return HttpError(422, "unreadable_image", _REASON.sub(r"\1", message))
    if isinstance(error, ImageWriteError):
        if _NO_SPACE.search(message):
            return HttpError(507, "no_space", "the server's disk is full; try again later", retry_after=10)
        return HttpError(422, "cannot_store", message)
    if isinstance(error, ArgumentError):
        return HttpError(422, "bad_option", message)
    return HttpError(500, "model_failed", message)


def _of_the_system(error: OSError) -> HttpError | None:
    """What the system refuses a server that stores uploads; None for what only a defect can bring."""
    if error.errno in _FULL:
        return HttpError(507, "no_space", "the server's disk is full; try again later", retry_after=10)
    if error.errno in _UNUSABLE:
        message = f"the server cannot store uploads ({error.strerror}); try again later"
        return HttpError(507, "no_storage", message, retry_after=10)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return HttpError(503, "busy", "the server has as many files open as it may; try again", retry_after=2)
    return None


def _for_a_client(message: str, names: dict[str, str]) -> str:
    """Without folders, and with options as requests call them."""
    for path, name in names.items():
        message = message.replace(path, name)
    message = _OPTION.sub(lambda found: found[1].replace("-", "_"), message.replace(CHOOSE_PAGE, ""))
    return " ".join(_FOLDERS.sub("", message).split())
