"""The range of luma in the sequence header of an AV1 stream, which an AVIF without a `colr` box says nowhere else.

Layout: AV1 Bitstream & Decoding Process Specification, sections 5.3 and 5.5.
"""

_SEQUENCE_HEADER = 1


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data), 8 * len(data)

    def read(self, count: int) -> int:
        """The next bits.

        Raises:
            ValueError: there are no more.
        """
        if count > self._left:
            raise ValueError("the sequence header ends early")
        self._left -= count
        return (self._number >> self._left) & ((1 << count) - 1)


def is_full_range(units: bytes) -> bool | None:
    """Whether luma goes from 0 to 255 rather than from 16 to 235.

    Args:
        units: the beginning of a stream, or OBUs as in a box `av1C` behind its first four bytes.

    Returns:
        None where they do not say.
    """
    while len(units) >= 2 and units[0] & 6 == 2 and units[1] < 128:  # a header of one byte, then a size of one byte
        if units[0] >> 3 & 15 == _SEQUENCE_HEADER:
            try:
                return _colour_range(_Bits(units[2 : 2 + units[1]]))
            except ValueError:
                return None
        units = units[2 + units[1] :]
    return None


def _colour_range(bits: _Bits) -> bool:
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
    if description == 0x010D00 and not monochrome:  # sRGB as it is
        return True
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
