"""BMPs that browsers show and Pillow refuses, made by bytes."""

import struct

import numpy as np
import pytest
from PIL import Image
from support.image_files import noise, read

from sr_tile.errors import ImageReadError


def bmp(rows, width, height, bits, *, size=40, compression=0, masks=b"", palette=b"", used=0, top_down=False):
    """rows: the bytes of each, from the top; size: of the header, 16 is OS/2's."""
    info = struct.pack("<iiHHIIiiII", width, -height if top_down else height, 1, bits, compression, 0, 0, 0, used, 0)
    head = (struct.pack("<I", size) + info + (masks if size > 40 else b""))[:size].ljust(size, b"\0")
    head += (masks if size == 40 else b"") + palette
    rows = [row + bytes(-len(row) % 4) for row in rows]
    body = b"".join(rows if top_down else rows[::-1])
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def masked(pixels_hwc, bits, masks):
    """Rows of pixels whose channels lie in the masks, the upper bits of each value kept; and what that gives back."""
    numbers, expected = np.zeros(pixels_hwc.shape[:2], np.uint64), []
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        top = mask >> shift
        values = np.rint(pixels_hwc[..., channel] * (top / 255)).astype(np.uint64)
        numbers |= values << np.uint64(shift)
        expected.append(np.rint(values.astype(float) * 255 / top))
    return [row.astype(f"<u{bits // 8}").tobytes() for row in numbers], np.dstack(expected)


MASKS = {
    "16 bits, 2 3 1": (16, (0x0030, 0x000E, 0x0001)),
    "16 bits, 8 8 0": (16, (0xFF00, 0x00F0, 0x000F)),
    "16 bits, 4 4 4 4": (16, (0x0F00, 0x00F0, 0x000F, 0xF000)),
    "16 bits, 1 9 2 4": (16, (0x8000, 0x7FC0, 0x0030, 0x000F)),
    "32 bits, 11 11 10": (32, (0xFFE00000, 0x001FFC00, 0x000003FF)),
    "32 bits, red lowest": (32, (0x0000FF, 0x00FF00, 0xFF0000)),
    "32 bits, 6 1 7 5 4": (32, (0xFC000000, 0x01FC0000, 0x0001F000, 0x0000000F)),
    "32 bits with alpha": (32, (0xFF0000, 0x00FF00, 0x0000FF, 0xFF000000)),
}


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("name", list(MASKS))
def test_colours_in_any_bits(tmp_path, name, top_down):
    bits, masks = MASKS[name]
    rows, expected_hwc = masked(noise(15, 23, 4), bits, masks)
    data = struct.pack(f"<{len(masks)}I", *masks)
    for size, compression in ((56 if len(masks) == 4 else 40, 3), (40, 6 if len(masks) == 4 else 3)):
        file = bmp(rows, 23, 15, bits, size=size, compression=compression, masks=data, top_down=top_down)
        (tmp_path / "a.bmp").write_bytes(file)
        np.testing.assert_allclose(read(tmp_path / "a.bmp")[0], expected_hwc, atol=1)


@pytest.mark.parametrize("colours", [2, 4])
def test_palettes_of_two_bits(tmp_path, colours):
    index = np.random.default_rng(0).integers(0, colours, (9, 13))
    table = np.random.default_rng(1).integers(0, 256, (colours, 4)).astype(np.uint8)
    padded = np.pad(index, ((0, 0), (0, 3))).reshape(9, 4, 4)
    rows = [bytes(row) for row in (padded @ [64, 16, 4, 1]).astype(np.uint8)]
    (tmp_path / "a.bmp").write_bytes(bmp(rows, 13, 9, 2, palette=table.tobytes(), used=colours))
    np.testing.assert_array_equal(read(tmp_path / "a.bmp")[0], table[index][..., 2::-1])


@pytest.mark.parametrize("used", [256, 300, 305_402_420])
@pytest.mark.parametrize("size", [16, 40, 108])
def test_palettes_that_say_a_wrong_number_of_colours(tmp_path, size, used):
    index = np.random.default_rng(0).integers(0, 256, (9, 13)).astype(np.uint8)
    table = np.random.default_rng(1).integers(0, 256, (256, 4)).astype(np.uint8)
    (tmp_path / "a.bmp").write_bytes(
        bmp([bytes(row) for row in index], 13, 9, 8, palette=table.tobytes(), used=used, size=size)
    )
    np.testing.assert_array_equal(read(tmp_path / "a.bmp")[0], table[index][..., 2::-1])


def test_a_bmp_that_ends_early_says_where(tmp_path):
    rows, _ = masked(noise(15, 23, 3), 16, MASKS["16 bits, 2 3 1"][1])
    data = bmp(rows, 23, 15, 16, compression=3, masks=struct.pack("<3I", *MASKS["16 bits, 2 3 1"][1]))
    (tmp_path / "a.bmp").write_bytes(data[: -48 * 4])
    with pytest.raises(ImageReadError, match=r"ends after 11 of 15 rows: copy it again"):
        read(tmp_path / "a.bmp")


def test_a_bmp_as_it_lies_in_the_clipboard(tmp_path):
    pixels_hwc = noise(9, 13, 3)
    Image.fromarray(pixels_hwc).save(tmp_path / "a.dib")
    np.testing.assert_array_equal(read(tmp_path / "a.dib")[0], pixels_hwc)
