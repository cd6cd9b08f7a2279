import numpy as np
import pytest

from sr_tile.errors import ArgumentError, ModelOutputError
from sr_tile.serving import BucketBatcher, ConcatBatcher, CustomBatcher, ListBatcher, PadBatcher


def arrays(sizes, rows=None, dtype=np.float32):
    rng = np.random.default_rng(0)
    rows = rows or [1] * len(sizes)
    return [(rng.random((count, 3, *size)).astype(dtype),) for count, size in zip(rows, sizes, strict=True)]


def enlarge(batch):
    """Pixel by pixel: what lies beside an array does not matter to it."""
    return batch.repeat(2, axis=2).repeat(2, axis=3) + 1


def serve(batcher, requests, model):
    """What a `DynamicBatcher` does with requests of one key."""
    assert len({batcher.key(request) for request in requests}) == 1
    inputs, context = batcher.batch(requests)
    return batcher.unbatch(model(*inputs), context), inputs


SIZES = [(4, 5), (7, 2), (1, 1), (7, 5)]


def test_concat_answers_as_if_alone():
    requests = arrays([(4, 5)] * 3, rows=[2, 1, 3])
    answers, (batch,) = serve(ConcatBatcher(), requests, enlarge)
    assert batch.shape == (6, 3, 4, 5)
    for answer, (array,) in zip(answers, requests, strict=True):
        assert np.array_equal(answer, enlarge(array))


def test_concat_keeps_other_shapes_and_types_apart():
    batcher = ConcatBatcher()
    (one,), (other,) = arrays([(4, 5), (4, 6)])
    keys = [batcher.key((array,)) for array in (one, other, one.astype(np.float64), one[0])]
    assert len(set(keys)) == 4
    assert batcher.key((one,)) == batcher.key((np.concatenate([one, one]),))


def test_several_inputs_and_outputs():
    requests = [(np.full((n, 2), n), np.full((n,), -n)) for n in (1, 3)]
    answers, _ = serve(ConcatBatcher(), requests, lambda a, b: (a + 1, b))
    assert [answer[0].shape for answer in answers] == [(1, 2), (3, 2)]
    assert answers[1][1].tolist() == [-3, -3, -3]


@pytest.mark.parametrize("request_", [(), ([1, 2],), (np.float32(1),), (np.zeros((0, 3)),), (np.zeros(2), np.zeros(3))])
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(ArgumentError):
        ConcatBatcher().key(request_)


def test_pad_answers_as_if_alone():
    requests = arrays(SIZES, rows=[1, 2, 1, 1])
    answers, (batch,) = serve(PadBatcher((2, 3), value=9, scale=2), requests, enlarge)
    assert batch.shape == (5, 3, 7, 5)
    assert (batch[3, :, 1:, 1:] == 9).all()
    for answer, (array,) in zip(answers, requests, strict=True):
        assert np.array_equal(answer, enlarge(array))


def test_pad_leaves_outputs_without_these_axes_alone():
    answers, _ = serve(PadBatcher((2, 3), scale=0), arrays(SIZES), lambda batch: batch.sum(axis=(1, 2, 3)))
    for answer, (array,) in zip(answers, arrays(SIZES), strict=True):
        np.testing.assert_allclose(answer, array.sum(keepdims=False), rtol=1e-5)


def test_pad_says_when_the_scale_is_wrong():
    with pytest.raises(ModelOutputError, match="scale"):
        serve(PadBatcher((2, 3), scale=3), arrays(SIZES), enlarge)
    with pytest.raises(ArgumentError, match="axis 0"):
        PadBatcher((0, 1))


def test_bucket_pads_to_its_class_only():
    batcher = BucketBatcher((2, 3), step=4, scale=2)
    requests = arrays([(4, 5), (3, 8), (1, 7)])
    answers, (batch,) = serve(batcher, requests, enlarge)
    assert batch.shape == (3, 3, 4, 8)
    for answer, (array,) in zip(answers, requests, strict=True):
        assert np.array_equal(answer, enlarge(array))
    keys = {batcher.key(request) for request in arrays([(4, 5), (5, 5), (4, 9), (4, 8)])}
    assert len(keys) == 3


def test_lists_for_enhance_batch():
    answers, _ = serve(ListBatcher(), [("a",), ("b",)], lambda items: [item.upper() for item in items])
    assert answers == ["A", "B"]
    with pytest.raises(ModelOutputError, match="1 results for 2"):
        serve(ListBatcher(), [("a",), ("b",)], lambda items: items[:1])


def test_custom_functions():
    batcher = CustomBatcher(
        batch=lambda requests: ((" ".join(word for (word,) in requests),), len(requests)),
        unbatch=lambda text, count: text.split(" "),
        key=lambda request: len(request[0]),
    )
    answers, inputs = serve(batcher, [("one",), ("two",)], str.title)
    assert inputs == ("one two",)
    assert answers == ["One", "Two"]
    assert batcher.key(("three",)) != batcher.key(("one",))


@pytest.mark.parametrize("broken", [lambda x: x[:-1], lambda x: None, lambda x: np.float32(1), lambda x: (x, x[:1])])
def test_an_output_that_does_not_fit_is_refused(broken):
    with pytest.raises(ModelOutputError, match="batch of 2 rows"):
        serve(ConcatBatcher(), arrays([(2, 2)] * 2), broken)
