import contextlib
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.image_files import photograph
from support.toys import ToyEngine

from sr_tile.errors import ImageWriteError, OutOfMemoryError
from sr_tile.images import ImageInfo, ImageReader, ImageWriter, Reduction, WriteOptions
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan, strip_bytes

PLAN = Plan((16, 16), 4, 1, 1, batch=4)
UNIT = 10**9  # bytes, beside which the rows of these images are nothing
CAPACITY = 100.9 * UNIT


class WholeSource(ArraySource):
    """An array that says it takes memory as a whole, and notes how much is taken at the same time."""

    lock = threading.Lock()
    taken = most = 0

    def __init__(self, array, size):
        super().__init__(array)
        self.whole_bytes, self._read = size * UNIT, False

    def read_rows(self, count):
        with self.lock:
            if not self._read:
                WholeSource.taken += self.whole_bytes
                WholeSource.most = max(WholeSource.most, WholeSource.taken)
                self._read = True
        time.sleep(0.002)
        return super().read_rows(count)

    def close(self):
        with self.lock:
            if self._read:
                WholeSource.taken -= self.whole_bytes
                self._read = False


class WholeSink(ArraySink):
    """The same of what takes pixels."""

    def __init__(self, info, size):
        super().__init__(info)
        self.whole_bytes, self._begun = size * UNIT, False

    def write_rows(self, rows_hwc):
        with WholeSource.lock:
            if not self._begun:
                WholeSource.taken += self.whole_bytes
                WholeSource.most = max(WholeSource.most, WholeSource.taken)
                self._begun = True
        time.sleep(0.002)
        super().write_rows(rows_hwc)

    def close(self):
        super().close()
        self.abort()

    def abort(self):
        with WholeSource.lock:
            if self._begun:
                WholeSource.taken -= self.whole_bytes
                self._begun = False


def jobs(sizes, written=None):
    image = np.zeros((40, 40, 3), np.uint8)
    pairs = zip(sizes, written or [0] * len(sizes), strict=True)
    return [
        ImageJob(f"{index}", lambda size=size: WholeSource(image, size), lambda info, out=out: WholeSink(info, out))
        for index, (size, out) in enumerate(pairs)
    ]


@pytest.mark.parametrize("decoders", [1, 2, 4])
def test_images_wait_for_each_other_and_those_that_never_fit_fail_alone(decoders):
    WholeSource.taken = WholeSource.most = 0
    sizes = [60, 0, 60, 101, 30, 70, 100, 1, 0, 99] * 3
    pipeline = Pipeline(ToyEngine(), PLAN, decoders=decoders)
    pipeline.whole_images = WholeImages(CAPACITY)
    outcomes = {outcome.index: outcome.error for outcome in pipeline.run(jobs(sizes))}
    assert sorted(outcomes) == list(range(len(sizes)))
    for index, error in outcomes.items():
        assert isinstance(error, OutOfMemoryError) == (sizes[index] > 100)
    assert WholeSource.most <= 100 * UNIT


@pytest.mark.parametrize("decoders", [1, 2, 4])
def test_what_encoding_takes_is_held_until_the_image_is_written(decoders):
    WholeSource.taken = WholeSource.most = 0
    read, written = [60, 0, 60, 1, 30, 0, 0, 50] * 3, [40, 90, 0, 100, 60, 0, 101, 50] * 3
    pipeline = Pipeline(ToyEngine(), PLAN, decoders=decoders)
    pipeline.whole_images = shared = WholeImages(CAPACITY)
    outcomes = {outcome.index: outcome.error for outcome in pipeline.run(jobs(read, written))}
    for index, error in outcomes.items():
        assert isinstance(error, OutOfMemoryError) == (read[index] + written[index] > 100)
        assert error is None or ("encoded as a whole" in str(error) and "write a PNG, JPEG or TIFF" in str(error))
    assert 90 * UNIT <= WholeSource.most <= 100 * UNIT
    assert shared.reserve((object(), 0), "later", 100 * UNIT, lambda: False), "something was not given back"


def test_rows_of_whole_images_count_too():
    """Four strips of input, one of output, blocks for the encoder."""
    rows = strip_bytes(PLAN.grid(40, 40), 3, 1)
    for room, fails in ((rows - 1, True), (rows, False)):
        pipeline = Pipeline(ToyEngine(), PLAN)
        pipeline.whole_images = WholeImages(UNIT + room)
        (outcome,) = pipeline.run(jobs([1]))
        assert isinstance(outcome.error, OutOfMemoryError) == fails


def test_a_run_that_is_given_up_gives_back_what_encoding_takes():
    shared = WholeImages(CAPACITY)
    pipeline = Pipeline(ToyEngine(), PLAN)
    pipeline.whole_images = shared
    run = pipeline.run(jobs([0] * 9, [70] * 9))
    assert next(run).error is None
    run.close()
    assert shared.reserve((object(), 0), "later", 100 * UNIT, lambda: False)


def test_pipelines_that_share_it_wait_for_each_other():
    WholeSource.taken = WholeSource.most = 0
    shared = WholeImages(CAPACITY)
    failed = []

    def work():
        pipeline = Pipeline(ToyEngine(), PLAN, decoders=1, encoders=1)
        pipeline.whole_images = shared
        failed.extend(outcome.error for outcome in pipeline.run(jobs([60, 40, 90])) if outcome.error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert WholeSource.most <= 100 * UNIT


def test_a_run_that_is_given_up_does_not_wait():
    shared = WholeImages(CAPACITY)
    assert shared.reserve((object(), 0), "other", 80 * UNIT, lambda: True)
    pipeline = Pipeline(ToyEngine(), replace(PLAN, batch=1))
    pipeline.whole_images = shared
    run = pipeline.run(jobs([0, 50]))
    assert next(run).error is None
    run.close()
    assert shared.reserve((object(), 0), "third", 20 * UNIT, lambda: False)


def test_the_header_tells_what_is_decoded_as_a_whole(tmp_path):
    from sr_tile.images.vips import vips

    image = vips().Image.new_from_array(photograph()).copy(interpretation="srgb")
    turned = image.copy()
    turned.set_type(vips().GValue.gint_type, "orientation", 6)
    files = {"plain.png": (image, {}), "interlaced.png": (image, {"interlace": True}), "plain.jpg": (image, {}),
             "progressive.jpg": (image, {"interlace": True}), "turned.jpg": (turned, {}), "a.webp": (image, {}),
             "a.avif": (image, {"effort": 0}), "a.tif": (image, {})}  # fmt: skip
    for name, (picture, options) in files.items():
        picture.write_to_file(str(tmp_path / name), **options)
        with ImageReader(tmp_path / name) as reader:
            streams = name in ("plain.png", "plain.jpg", "a.tif")
            assert (reader.whole_bytes == 0) == streams, name
            assert streams or reader.whole_bytes >= reader.info.pixels * reader.info.channels


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "options", "least"),
    [
        ("a.png", 4, np.uint16, {}, 0),
        ("a.jpg", 3, np.uint8, {}, 0),
        ("a.tif", 3, np.float32, {}, 0),
        ("a.dzi", 3, np.uint8, {}, 0),
        ("a.gif", 3, np.uint8, {}, 8),
        ("a.webp", 3, np.uint8, {}, 4),
        ("a.webp", 3, np.uint16, {"lossless": True}, 25),
        ("a.webp", 4, np.uint8, {}, 25),
        ("a.avif", 3, np.uint8, {}, 25),
        ("a.avif", 4, np.uint8, {}, 40),
        ("a.avif", 3, np.uint16, {}, 45),
    ],
)
def test_a_writer_says_what_its_library_takes_as_a_whole(tmp_path, name, channels, dtype, options, least):
    """By the size of the result, as reduced."""
    info = ImageInfo(80, 100, channels, np.dtype(dtype), reduction=Reduction(40, 50))
    with (
        contextlib.suppress(ImageWriteError),
        ImageWriter(tmp_path / name, info, options=WriteOptions(**options)) as writer,
    ):
        assert (writer.whole_bytes == 0) == (least == 0)
        assert least * 2000 <= writer.whole_bytes <= 100 * 2000
        writer.abort()
