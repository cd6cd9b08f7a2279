import itertools

import numpy as np
import pytest

from sr_tile.pipeline.tile_batches import BatchBuilder


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_nothing_is_lost_and_order_is_kept(size):
    rng = np.random.default_rng(size)
    shapes = rng.choice([4, 6], 50)
    builder = BatchBuilder(size)
    batches = [
        b for key, side in enumerate(shapes) for b in builder.add(key, np.full((3, side, side), key, np.float32))
    ]
    batches += builder.flush()
    assert [key for batch in batches for key in batch.keys] == list(range(50))
    for batch in batches:
        assert batch.pixels_nchw.shape[0] == len(batch.keys) <= size
        assert batch.pixels_nchw[:, 0, 0, 0].tolist() == list(batch.keys)
    for first, second in itertools.pairwise(batches):  # a batch is short only where the shape changes
        assert len(first.keys) == size or first.pixels_nchw.shape[2:] != second.pixels_nchw.shape[2:]


def test_flush_of_nothing_is_nothing():
    assert BatchBuilder(3).flush() == []
