"""Files over HTTP: resumed where they stopped, and named only when their hash is right."""

import contextlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sr_tile.errors import DownloadError
from sr_tile.system.hashes import sha256_of

LARGEST = 4 * 2**30  # no checkpoint is larger: a server that never stops does not fill the disk
_CHUNK = 2**17
_PAGE = (b"<!doctype", b"<html", b"<head")
_PROGRESS = 2**14  # bytes of a connection that count as some: of one with fewer the next is not the first again
_SLOWEST = 200  # bytes a second, once it could have been waited for twice
_PASSING = (408, 425, 429, 500, 502, 503, 504)

OnBytes = Callable[[int, int | None], None]


class _InterruptedError(Exception):
    """The connection failed; what has come so far is kept, and another attempt may go on from there."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but to http and https alone, and never from https to anything else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith(("http:", "https:")):
            raise DownloadError(f"{req.full_url}: sends on to {newurl}, which is no http; this is refused")
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url}: sends on to {newurl}, which is not encrypted; this is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
    on_bytes: OnBytes | None = None,
) -> None:
    """Download `url` to `target`, which appears when it is whole and has the right hash.

    What came before a failure stays beside it as `NAME.HASH.part`, and the next call goes on from there.

    Args:
        url: http or https.
        target: in an existing folder; replaced if it exists.
        sha256: of the file, in hexadecimal digits.
        timeout: seconds without a byte after which the server counts as hanging.
        attempts: connections in a row without any progress.
        pause: seconds before the second of them, doubled for each further one.
        on_bytes: is told (bytes so far, bytes in all or None).

    Raises:
        DownloadError: no connection, no such file, a web page in its place, another hash, no room.
    """
    part = target.with_name(f"{target.name}.{sha256[:12]}.part")
    failures, resumed = 0, _size(part) > 0
    while True:
        before = _size(part)
        try:
            _append(url, part, timeout, on_bytes or (lambda done, total: None))
        except _InterruptedError as error:
            failures = 1 if _size(part) >= before + _PROGRESS else failures + 1
            if failures >= attempts:
                raise DownloadError(
                    f"{url}: {error}; {_size(part)} bytes are kept, run the command again to go on from there"
                ) from None
            resumed = _size(part) > 0
            time.sleep(pause * 2 ** (failures - 1))
            continue
        found = sha256_of(part)
        if found == sha256.lower():
            part.replace(target)
            return
        part.unlink()
        if not resumed:
            raise DownloadError(
                f"{url}: has the sha256 {found}, not {sha256.lower()}: it is another file than the one published, and "
                "was deleted; look whether the authors replaced it"
            )
        resumed = False  # the parts may stem from different files: once more from the start


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(url: str, part: Path, timeout: float, on_bytes: OnBytes) -> None:
    """One connection: fetch what is missing of `part`, all of it where the server knows no ranges."""
    have = _size(part)
    headers = {"User-Agent": "sr-tile", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.build_opener(_SafeRedirects).open(request, timeout=timeout) as response:
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _InterruptedError("answered with another range than asked for")
            _copy(url, response, part, have if response.status == 206 else 0, timeout, on_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return  # there is nothing behind what we have: the hash decides
        answer = " ".join(f"answered {error.code} {error.reason}".split())
        if error.code in _PASSING:
            raise _InterruptedError(answer) from None
        raise DownloadError(f"{url}: {answer}; look whether the file has moved, and download it by hand") from None
    except TimeoutError:
        raise _InterruptedError(f"sent nothing for {timeout:g} s") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise _InterruptedError(f"sent nothing for {timeout:g} s") from None
        if isinstance(reason, ssl.SSLCertVerificationError):
            why = getattr(reason, "verify_message", reason)
            raise DownloadError(
                f"{url}: its certificate is not trusted here ({why}); look at the address, and at the clock and the "
                "certificates of this machine"
            ) from None
        raise _InterruptedError(f"cannot be reached or broke off: {reason or type(error).__name__}") from None
    except ValueError as error:
        raise DownloadError(f"{url}: is no address that can be downloaded: {error}") from None


def _copy(url: str, response: Any, part: Path, have: int, timeout: float, on_bytes: OnBytes) -> None:
    """The body into the file, and whether it was whole."""
    begun, before = time.monotonic(), have
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    _check_size(url, total or 0)
    page = response.headers.get_content_type() == "text/html"
    with contextlib.ExitStack() as stack:
        file: Any = None
        while chunk := response.read1(_CHUNK):
            if page or (not have and chunk.lstrip()[:9].lower().startswith(_PAGE)):
                raise DownloadError(
                    f"{url}: answered with a web page in place of the file, as file hosters do above their quota; "
                    "try again tomorrow, or download it by hand"
                )
            try:
                file = file or stack.enter_context(part.open("ab" if have else "wb", buffering=0))
                file.write(chunk)
            except OSError as error:
                raise DownloadError(f"{part}: cannot be written: {error.strerror or error}; make room") from None
            have += len(chunk)
            _check_size(url, have)
            seconds = time.monotonic() - begun
            if seconds > 2 * timeout and have - before < _SLOWEST * seconds:
                raise _InterruptedError(f"sends less than {_SLOWEST} bytes a second")
            on_bytes(have, total)
    if file is None or (total is not None and have < total):
        raise _InterruptedError(f"broke off after {have} of {'unknown' if total is None else total} bytes")


def _check_size(url: str, size: int) -> None:
    if size > LARGEST:
        raise DownloadError(f"{url}: is larger than {LARGEST} bytes, which no checkpoint is; look at the address")
