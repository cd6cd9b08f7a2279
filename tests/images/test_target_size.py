import numpy as np
import pytest

from sr_tile.errors import ArgumentError
from sr_tile.images.target_size import TargetSize, parse_box


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"scale": 3}, (900, 1200)),
        ({"scale": 1.5}, (450, 600)),
        ({"width": 1000}, (750, 1000)),
        ({"height": 75}, (75, 100)),
        ({"fit": (1080, 1920)}, (1080, 1440)),
        ({"fit": (4000, 1920)}, (1440, 1920)),
        ({"max_side": 2000}, (1500, 2000)),
        ({"min_side": 600}, (600, 800)),
        ({"megapixels": 0.48}, (600, 800)),
        ({}, None),
        ({"linear": True}, None),
    ],
)
def test_sizes_of_a_picture_of_400_by_300(wish, expected):
    assert TargetSize(**wish).of(300, 400) == expected


@pytest.mark.parametrize("wish", [{"width": 1}, {"fit": (1, 1)}, {"scale": 1e-6}, {"megapixels": 1e-6}])
def test_no_side_vanishes(wish):
    assert min(TargetSize(**wish).of(3, 5000)) >= 1


@pytest.mark.parametrize("side", [1, 7, 299, 1920, 9999])
def test_a_side_that_is_asked_for_is_exact(side):
    for height, width in ((301, 407), (1, 3000), (3000, 2)):
        assert TargetSize(width=side).of(height, width)[1] == side
        assert TargetSize(height=side).of(height, width)[0] == side
        assert max(TargetSize(max_side=side).of(height, width)) == side
        assert min(TargetSize(min_side=side).of(height, width)) == side
        fitted = TargetSize(fit=(side, 500)).of(height, width)
        assert fitted[0] == side or fitted[1] == 500
        assert fitted[0] <= side
        assert fitted[1] <= 500


def test_the_factor_reaches_both_sides():
    for size in (TargetSize(width=1001), TargetSize(max_side=999), TargetSize(scale=1.7)):
        factor, target = size.factor(301, 407), size.of(301, 407)
        assert factor * 301 >= target[0] - 1e-9
        assert factor * 407 >= target[1] - 1e-9


@pytest.mark.parametrize(
    "wish", [{"scale": 0}, {"scale": -2.0}, {"width": 0}, {"megapixels": float("nan")}, {"width": "9"}]
)
def test_no_size_is_refused(wish):
    with pytest.raises(ArgumentError, match="no size"):
        TargetSize(**wish)


def test_numbers_of_numpy_are_numbers():
    assert TargetSize(width=np.int64(200)).of(300, 400) == TargetSize(scale=np.float32(0.5)).of(300, 400) == (150, 200)


@pytest.mark.parametrize("box", [3, (3,), (1, 2, 3), "30x40"])
def test_what_is_no_pair_does_not_fit(box):
    with pytest.raises(ArgumentError, match=r"fit is .*; give \(height, width\)"):
        TargetSize(fit=box)


def test_two_sizes_are_refused():
    with pytest.raises(ArgumentError, match="scale and width are two sizes"):
        TargetSize(scale=2, width=100)


@pytest.mark.parametrize("text", ["", "1920", "0x5", "5x0", "axb", "1920x1080x3", "-1x5"])
def test_no_box_is_refused(text):
    assert parse_box("1920x1080") == (1080, 1920)
    with pytest.raises(ArgumentError, match="is not WIDTHxHEIGHT"):
        parse_box(text)
