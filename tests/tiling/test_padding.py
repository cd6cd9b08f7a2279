"""What is invented where a picture has no pixels."""

import numpy as np
import pytest
from support.toys import noise_image

from sr_tile.tiling.padding import pad


@pytest.mark.parametrize(("length", "wanted"), [(1, 5), (2, 9), (4, 5), (4, 7), (4, 12), (8, 8)])
def test_padding_reflects_then_repeats(length, wanted):
    row = np.arange(length, dtype=np.uint8).reshape(1, length, 1)
    padded = pad(row, 1, wanted)[0, :, 0]
    room = min(wanted, 2 * length - 1)
    reflected = np.pad(row[0, :, 0], (0, room - length), mode="reflect") if length > 1 else row[0, :, 0]
    assert padded.tolist() == np.pad(reflected, (0, wanted - len(reflected)), mode="edge").tolist()


@pytest.mark.parametrize(("wanted", "edge"), [(8, True), (12, True), (13, False), (16, False)])
def test_padding_to_the_alignment_repeats(wanted, edge):
    row = np.arange(5, dtype=np.uint8).reshape(1, 5, 1)
    padded = pad(row, 1, wanted, multiple=8)[0, :, 0]
    expected = np.pad(row[0, :, 0], (0, wanted - 5), mode="edge") if edge else pad(row, 1, wanted)[0, :, 0]
    assert padded.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("padding", "mode"),
    [("replicate", "edge"), ("reflect", "reflect"), ("symmetric", "symmetric"), ("zeros", "constant")],
)
def test_padding_to_the_alignment_is_what_the_network_does(padding, mode):
    tile = noise_image(5, 6)
    expected = np.pad(tile, ((0, 3), (0, 2), (0, 0)), mode=mode)
    np.testing.assert_array_equal(pad(tile, 8, 8, 8, padding), expected)
