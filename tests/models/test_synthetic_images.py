import numpy as np

from sr_tile.models.synthetic_images import scenes


def test_scenes_are_pictures_and_always_the_same():
    first, again = scenes(10, 64), scenes(10, 64)
    for one, two in zip(first, again, strict=True):
        assert one.shape == (64, 64, 3)
        assert one.dtype == np.float32
        assert 0 <= one.min() < one.max() <= 1
        assert np.array_equal(one, two)


def test_another_seed_gives_other_scenes_and_fewer_are_the_first():
    assert not any(np.array_equal(*pair) for pair in zip(scenes(5, 32), scenes(5, 32, seed=1), strict=True))
    assert all(np.array_equal(*pair) for pair in zip(scenes(3, 32), scenes(5, 32), strict=False))
    assert len({picture.tobytes() for picture in scenes(10, 32)}) == 10


def test_together_they_use_the_whole_range():
    values = np.stack(scenes(15, 64))
    assert values.min() < 0.02
    assert values.max() > 0.98
