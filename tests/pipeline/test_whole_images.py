import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.image_files import photograph
from support.toys import ToyEngine

from sr_tile.errors import OutOfMemoryError
from sr_tile.images import ImageReader
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan

PLAN = Plan((16, 16), 4, 1, 1, batch=4)


class WholeSource(ArraySource):
    """An array that says it takes memory as a whole, and notes how much is taken at the same time."""

    lock = threading.Lock()
    taken = most = 0

    def __init__(self, array, size):
        super().__init__(array)
        self.whole_bytes, self._read = size, False

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


def jobs(sizes):
    image = np.zeros((40, 40, 3), np.uint8)
    return [
        ImageJob(f"{index}", lambda size=size: WholeSource(image, size), ArraySink) for index, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("decoders", [1, 2, 4])
def test_images_wait_for_each_other_and_those_that_never_fit_fail_alone(decoders):
    WholeSource.taken = WholeSource.most = 0
    sizes = [60, 0, 60, 101, 30, 70, 100, 1, 0, 99] * 3
    pipeline = Pipeline(ToyEngine(), PLAN, decoders=decoders)
    pipeline.whole_images = WholeImages(100)
    outcomes = {outcome.index: outcome.error for outcome in pipeline.run(jobs(sizes))}
    assert sorted(outcomes) == list(range(len(sizes)))
    for index, error in outcomes.items():
        assert isinstance(error, OutOfMemoryError) == (sizes[index] > 100)
    assert WholeSource.most <= 100


def test_pipelines_that_share_it_wait_for_each_other():
    WholeSource.taken = WholeSource.most = 0
    shared = WholeImages(100)
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
    assert WholeSource.most <= 100


def test_a_run_that_is_given_up_does_not_wait():
    shared = WholeImages(100)
    assert shared.reserve((object(), 0), "other", 80, lambda: True)
    pipeline = Pipeline(ToyEngine(), replace(PLAN, batch=1))
    pipeline.whole_images = shared
    run = pipeline.run(jobs([0, 50]))
    assert next(run).error is None
    run.close()
    assert shared.reserve((object(), 0), "third", 20, lambda: False)


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
