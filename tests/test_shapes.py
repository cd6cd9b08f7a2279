"""What the tests themselves rely on: arrays of a wrong shape do not pass, in whichever test."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from support import shapes

from sr_tile.tiling.channels import enlarge_bicubic

GOOD, FLAT = np.zeros((3, 4, 5), np.float32), np.zeros((4, 5), np.float32)


@pytest.mark.parametrize("turn", range(2))  # what one test has used up does not count for the next
def test_wrong_shapes_are_refused_in_the_first_calls_of_each_test(turn):
    with pytest.raises(TypeCheckError):
        enlarge_bicubic(FLAT, 2)
    for _ in range(shapes.CHECKS):
        enlarge_bicubic(GOOD, 1)
    enlarge_bicubic(FLAT, 1)
