"""Why a file cannot be decoded, in words: where libraries say nothing, the file is looked at."""

from pathlib import Path

from sr_tile.images.content_type import format_by_content
from sr_tile.images.jpeg_segments import has_end
from sr_tile.images.pillow_decoder import NEXT
from sr_tile.images.png_faults import find_faults
from sr_tile.images.tiff_pixels import tiff_pixels


def true_reason(path: Path, reason: str) -> str:
    """What is wrong with a file and what to do.

    Args:
        path: of the file.
        reason: what a library said; may be empty.
    """
    return f"{_fault(path, reason) or reason or 'its pixels cannot be decoded'}: {NEXT}"


def _fault(path: Path, reason: str) -> str | None:
    with path.open("rb") as file:
        head = file.read(64)
        if format_by_content(head) == "jpeg" and not has_end(file):
            return "it ends early, before its end marker"
    kind, size = format_by_content(head), path.stat().st_size
    if kind == "webp" and size < (whole := 8 + int.from_bytes(head[4:8], "little")):
        return f"it ends after {size} of {whole} bytes"
    if kind == "png":
        return find_faults(path).fault
    if kind == "tiff":
        header = tiff_pixels(path)
        if header is None:
            return "its directory is damaged"
        if header.outside:
            return f"{header.outside} of its strips or tiles lie beyond its end"
        return reason or f"its {header.compression} codes are damaged"
    return None
