"""TIFFs written by hand, with the faults of old scanners and programs."""

import struct

import numpy as np

SHORT, LONG, ASCII = 3, 4, 2


def tiff(pixels_hwc, *, extra=(), drop=(), change=None, ordered=True, following=0, order="<", twice=()):
    """A TIFF of one strip.

    Args:
        pixels_hwc: uint8 or uint16.
        extra: further entries, (tag, type, count, value of 4 bytes or longer bytes).
        drop: tags left out.
        change: other values, by tag.
        ordered: entries by their tags, or the other way round.
        following: where the next directory is said to lie.
        order: < or >.
        twice: tags of entries that stand there a second time.
    """
    height, width, channels = pixels_hwc.shape
    raw = pixels_hwc.astype(pixels_hwc.dtype.newbyteorder(order)).tobytes()
    bits = struct.pack(f"{order}{channels}H", *[pixels_hwc.dtype.itemsize * 8] * channels)
    photometric = 2 if channels > 2 else 1
    entries = [(256, LONG, 1, width), (257, LONG, 1, height), (258, SHORT, channels, bits), (259, SHORT, 1, 1)]
    entries += [(262, SHORT, 1, photometric), (273, LONG, 1, 8), (277, SHORT, 1, channels), (278, LONG, 1, height)]
    entries += [(279, LONG, 1, len(raw))]
    entries = [(tag, *rest[:2], (change or {}).get(tag, rest[2])) for tag, *rest in entries if tag not in drop]
    entries += extra
    entries += [entry for entry in entries if entry[0] in twice]
    entries.sort(key=lambda entry: entry[0], reverse=not ordered)
    body, table = raw + bytes(len(raw) % 2), b""
    for tag, kind, count, value in entries:
        table += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(value, bytes) and len(value) > 4:
            table += struct.pack(order + "I", 8 + len(body))
            body += value + bytes(len(value) % 2)
        elif isinstance(value, bytes):
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack(order + "H2x", value) if kind == SHORT else struct.pack(order + "I", value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(entries)) + table + struct.pack(order + "I", following)


def gray_and_alpha(height=64, width=48, dtype=np.uint8):
    """A ramp, and an alpha that is another."""
    gray = np.add.outer(np.arange(height) * 3, np.arange(width)) % 256
    alpha = np.add.outer(np.arange(height), np.arange(width) * 2) % 256
    return (np.dstack([gray, alpha]) * (257 if dtype == np.uint16 else 1)).astype(dtype)
