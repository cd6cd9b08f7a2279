"""The range of luma in the sequence header of an AV1 stream: an AVIF without a `colr` box says it nowhere else.

Layout: AV1 Bitstream & Decoding Process Specification, sections 5.3 and 5.5.
"""

_SEQUENCE_HEADER = 1
_RGB = 0x010D00  # BT.709, sRGB, identity


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._number, self._all = int.from_bytes(data), 8 * len(data)
        self._left = self._all

    @property
    def position(self) -> int:
        """Bits that were read."""
        return self._all - self._left

    def read(self, count: int) -> int:
        """The next bits.

        Raises:
            ValueError: there are no more.
        """
        if count > self._left:
            raise ValueError("the sequence header ends early")
        self._left -= count
        return (self._number >> self._left) & ((1 << count) - 1)


def find_range(units: bytes) -> tuple[int, bool] | None:
    """Whether luma goes from 0 to 255 rather than from 16 to 235, and which bit says so.

    Args:
        units: the beginning of a stream, or OBUs as in a box `av1C` behind its first four bytes.

    Returns:
        The number of the bit, from the highest of the first byte on, and its value; None where they do not say.
    """
    start = 0
    while (
        start + 2 <= len(units) and units[start] & 6 == 2 and units[start + 1] < 128
    ):  # header and size of a byte each
        body, size = start + 2, units[start + 1]
        if units[start] >> 3 & 15 == _SEQUENCE_HEADER:
            bits = _Bits(units[body : body + size])
            try:
                value = _colour_range(bits)
            except ValueError:
                return None
            return None if value is None else (8 * body + bits.position - 1, value)
        start = body + size
    return None


def _colour_range(bits: _Bits) -> bool | None:
    """None for RGB as it is, which has no such bit."""
    profile, _, reduced = bits.read(3), bits.read(1), bits.read(1)
    if reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    if not reduced and bits.read(1):  # frame ids
        bits.read(7)
    bits.read(3)  # blocks, filters, edges
    if not reduced:
        _skip_tools(bits)
    bits.read(3)  # superres, cdef, restoration
    high = bits.read(1)
    if profile == 2 and high:
        bits.read(1)
    monochrome = profile != 1 and bits.read(1)
    description = bits.read(24) if bits.read(1) else None
    if description == _RGB and not monochrome:
        return None
    return bool(bits.read(1))


def _skip_operating_points(bits: _Bits) -> None:
    if bits.read(1):
        raise ValueError("with times")  # of films
    delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delays and bits.read(1):
            bits.read(4)


def _skip_tools(bits: _Bits) -> None:
    bits.read(4)
    order = bits.read(1)
    if order:
        bits.read(2)
    screen = 2 if bits.read(1) else bits.read(1)
    if screen and not bits.read(1):
        bits.read(1)
    if order:
        bits.read(3)
