import threading
import time

import numpy as np
import pytest
from support.pipelines import array_job, plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image, repeat

from sr_tile.enhancer import Enhancer
from sr_tile.errors import GeometryError, ImageReadError, ImageWriteError, ModelOutputError, OutOfMemoryError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.tiling.channels import enlarge_bicubic
from sr_tile.tiling.padding import pad

# Every length in each direction, alone, and beside a length of its own kind and of another: y and x are cut apart.
SIZES = [size for n in range(1, 41) for size in ((n, 3), (3, n), (n, n), (n, 41 - n))]


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(("tile", "overlap", "halo"), [(8, 0, 0), (9, 4, 1), (16, 6, 0), (24, 18, 6), (64, 32, 8)])
def test_identity_is_exact_for_every_length_up_to_40(scale, tile, overlap, halo):
    engine = ToyEngine(ModelSpec("toy", scale=scale, multiple=1))
    batch = {1: 8, 2: 3, 4: 1}[scale]
    dtypes = [np.uint16 if (sum(size) + scale) % 3 == 0 else np.uint8 for size in SIZES]
    images = [noise_image(*size, 3, dtype, sum(size)) for size, dtype in zip(SIZES, dtypes, strict=True)]
    results = run(images, engine, plan(tile, overlap, halo, batch=batch))
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result, repeat(image, scale)), (image.shape, batch)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("model_channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_identity_is_exact_for_every_kind_of_pixel(channels, model_channels, dtype):
    engine = ToyEngine(ModelSpec("toy", scale=2, channels=model_channels, multiple=1, value_range=(0.0, 1.0)))
    image = noise_image(37, 53, channels, dtype)
    if channels in (2, 4):  # colours under full transparency are enlarged as alpha is, see below
        image[..., -1] = np.maximum(image[..., -1], np.finfo(np.float32).eps if dtype == np.float32 else 1)
    (result,) = run([image], engine, plan(16, 6, 1, batch=4), alpha="model")
    if dtype == np.float32:
        np.testing.assert_allclose(result, repeat(image, 2), atol=2e-7)
    else:
        assert np.array_equal(result, repeat(image, 2))


@pytest.mark.parametrize("alpha", ["model", "bicubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_that_nobody_sees_come_back_exactly_at_scale_1(alpha, dtype):
    image = noise_image(61, 47, 4, dtype)
    image[10:40, 5:30, 3] = 0
    (result,) = run([image], ToyEngine(), plan(16, 6, 1, batch=4), alpha=alpha)
    seen = image[..., 3:] > 0
    assert np.array_equal(result[..., 3], image[..., 3])
    # A model may make some of what is hidden visible: its colours are those of the neighbours then.
    assert np.array_equal(result * seen, image * seen) if alpha == "model" else np.array_equal(result, image)


def test_colours_that_nobody_sees_do_not_bleed():
    image = np.full((64, 64, 4), 255, np.uint8)
    image[:, 32:] = 0
    (result,) = run([image], BoxBlurEngine(3), plan(32, 16, 4))
    assert result[8:-8, 8:32, :3].min() >= 250


def test_tiles_do_not_show_in_what_was_filled():
    image = noise_image(160, 200, 4)
    y, x = np.mgrid[:160, :200]
    image[(x - 90) ** 2 + (y - 80) ** 2 > 2500] = 0
    (tiled,), (whole,) = (run([image], BoxBlurEngine(6), tiles) for tiles in (plan(48, 16, 8), plan(256)))
    assert np.array_equal(tiled, whole)


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-1.0, 1.0), (-0.5, 0.5)])
def test_the_models_range_of_values_changes_nothing(value_range):
    engine = ToyEngine(ModelSpec("toy", scale=1, multiple=1, value_range=value_range))
    for dtype in (np.uint8, np.uint16):
        image = noise_image(40, 30, 3, dtype)
        assert np.array_equal(run([image], engine, plan(16, 4))[0], image)


@pytest.mark.parametrize(
    ("dtype", "keywords"), [(np.uint8, {}), (np.uint16, {"equalised": True}), (np.uint8, {"multiple": 64})]
)
def test_identity_is_exact_at_every_count_of_tiles_of_256(dtype, keywords):
    """Lengths around each at which one more tile or multiple is needed, in each direction, and some in both at once."""
    both = [(256, 448), (448, 1024), (1024, 256), (257, 1100), (1099, 250), (1024, 1024)]
    edges = {*range(256, 1100, 192), *range(256, 1100, 64)}
    lengths = sorted({edge + step for edge in edges for step in (-2, -1, 0, 1, 2, 33)})
    sizes = [(length, 3) for length in lengths] + [(3, length) for length in lengths] + both
    images = [noise_image(*size, 1, dtype, sum(size)) for size in sizes]
    for result, image in zip(run(images, ToyEngine(), plan(256, 64, 16, batch=8, **keywords)), images, strict=True):
        assert np.array_equal(result, image), image.shape


def test_tiles_have_one_shape_and_nothing_is_invented_where_the_image_is_large_enough():
    engine = ToyEngine()
    run([noise_image(100, 70)], engine, plan(32, 8, 2, batch=4))
    assert {shape[2:] for shape in engine.shapes} == {(32, 32)}
    assert sum(shape[0] for shape in engine.shapes) == 4 * 3


def test_small_images_are_padded_to_the_multiple_only():
    engine = ToyEngine()
    image = noise_image(5, 21)
    (result,) = run([image], engine, plan(32, 8, 2, multiple=8))
    assert engine.shapes == [(1, 3, 8, 24)]
    assert np.array_equal(result, image)


def test_a_fixed_tile_is_padded_to():
    engine = ToyEngine()
    image = noise_image(5, 21)
    (result,) = run([image], engine, plan(32, 8, 2, fitted=False))
    assert engine.shapes == [(1, 3, 32, 32)]
    assert np.array_equal(result, image)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("overlap", "halo"), [(6, 3), (8, 3), (15, 4)])
def test_tiled_equals_whole_when_the_halo_covers_the_receptive_field(scale, overlap, halo):
    engine = BoxBlurEngine(3, spec=ModelSpec("blur", scale=scale, multiple=1))
    image = noise_image(60, 78, 3, np.float32)
    whole = engine.answer(image.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    for keywords in ({}, {"equalised": True}, {"batch": 5}):
        (result,) = run([image], engine, plan(24, overlap, halo, **keywords))
        np.testing.assert_allclose(result, whole.clip(0, 1), atol=1e-6)


def test_too_small_a_halo_is_seen():
    """The test above can fail."""
    engine = BoxBlurEngine(3)
    image = noise_image(60, 78, 3, np.float32)
    whole = engine.answer(image.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    (result,) = run([image], engine, plan(24, 6, 2))
    assert np.abs(result - whole).max() > 1e-3


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_batch_larger_than_all_images_under_way_never_hangs(workers, batch):
    images = [noise_image(20, 20, seed=seed) for seed in range(100)]
    results = run(images, ToyEngine(), plan(32, batch=batch), decoders=workers, encoders=workers)
    assert all(np.array_equal(a, b) for a, b in zip(images, results, strict=True))


def test_jobs_that_wait_for_outcomes_never_hang():
    done = threading.Semaphore(2)

    def jobs():
        for seed in range(6):
            assert done.acquire(timeout=10)
            yield array_job(noise_image(20, 20, seed=seed))

    for _ in Pipeline(ToyEngine(), plan(32, batch=8)).run(jobs()):
        done.release()


@pytest.mark.parametrize(("overlap", "halo"), [(0, 0), (4, 1), (8, 2)])
@pytest.mark.parametrize("scale", [2, 3])
def test_alpha_shows_no_seams(overlap, halo, scale):
    engine = ToyEngine(ModelSpec("toy", scale=scale, multiple=1))
    image = noise_image(72, 70, 4, np.float32)
    whole = enlarge_bicubic(image[..., 3:].transpose(2, 0, 1), scale)[0].clip(0, 1)
    (result,) = run([image], engine, plan(24, overlap, halo))
    np.testing.assert_allclose(result[..., 3], whole, atol=1e-6)
    assert np.allclose(result[..., :3], repeat(image[..., :3], scale), atol=1e-6)


def test_batches_are_filled_across_images():
    engine = ToyEngine()
    images = [noise_image(32, 32, seed=seed) for seed in range(11)]
    run(images, engine, plan(32, batch=4))
    assert [shape[0] for shape in engine.shapes] == [4, 4, 3]


def test_a_list_gives_what_each_image_gives_alone():
    engine = BoxBlurEngine(5)
    images = [
        noise_image(h, w, c, seed=h) for h, w, c in ((70, 50, 3), (9, 100, 1), (1, 1, 4), (64, 64, 2), (33, 20, 3))
    ]
    together = run(images, engine, plan(32, 12, 2, batch=3))
    for image, result in zip(images, together, strict=True):
        assert np.array_equal(result, run([image], engine, plan(32, 12, 2, batch=1))[0])


def test_out_of_memory_at_every_call_ends_in_the_same_picture():
    image = noise_image(75, 61)
    expected = run([image], BoxBlurEngine(2), plan(32, 8, 2, batch=4))[0]
    calls = len((engine := BoxBlurEngine(2), run([image], engine, plan(32, 8, 2, batch=4)))[0].shapes)
    for failing in range(calls):
        engine = BoxBlurEngine(2, fails=lambda call, shape, failing=failing: call == failing)
        assert np.array_equal(run([image], engine, plan(32, 8, 2, batch=4))[0], expected), failing
        assert engine.rebuilt == 1


def test_out_of_memory_at_every_tile_of_single_rows_starts_again_with_half_the_tile():
    image, other = noise_image(150, 140), noise_image(20, 90, seed=1)
    half = run([image, other], BoxBlurEngine(2), plan(32, 8, 2))
    tiles = len((engine := BoxBlurEngine(2), run([image, other], engine, plan(64, 8, 2)))[0].shapes)
    for failing in range(tiles):
        engine = BoxBlurEngine(2, fails=lambda call, shape, failing=failing: call >= failing and max(shape[2:]) > 32)
        pipeline = Pipeline(engine, plan(64, 8, 2))
        outcomes = {o.index: o for o in pipeline.run(map(array_job, [image, other]))}
        assert pipeline.plan.tile == (32, 32)
        for index in (0, 1):  # the receptive field fits the halo, so the size of the tile leaves no trace
            assert np.array_equal(outcomes[index].sink.pixels_hwc, half[index]), failing


def test_no_job_is_lost_when_all_start_again():
    def jobs():
        for seed in range(12):
            time.sleep(0.02)  # so that one is being fetched while the others are stopped
            yield array_job(noise_image(100, 90, seed=seed))

    engine = ToyEngine(fails=lambda call, shape: max(shape[2:]) > 32)
    outcomes = {outcome.index: outcome for outcome in Pipeline(engine, plan(64, 8, 2)).run(jobs())}
    assert set(outcomes) == set(range(12))
    for index, outcome in outcomes.items():
        assert np.array_equal(outcome.sink.pixels_hwc, noise_image(100, 90, seed=index))


def test_a_device_with_a_fixed_limit_gets_what_fits():
    image = noise_image(100, 100)
    engine = BoxBlurEngine(2, fails=lambda call, shape: shape[0] * shape[2] * shape[3] > 2500)
    result = run([image], engine, plan(64, 8, 2, batch=8))[0]
    assert np.array_equal(result, run([image], BoxBlurEngine(2), plan(100, 8, 2))[0])


def test_no_memory_at_all_is_one_clear_error():
    engine = ToyEngine(fails=lambda call, shape: True)
    with pytest.raises(OutOfMemoryError, match="cannot become smaller"):
        run([noise_image(100, 100)], engine, plan(64, 8, 2, batch=2))


class BrokenSource(ArraySource):
    """Fails at its second strip."""

    def read_rows(self, count):
        if self._row:
            raise ImageReadError("broken.png: truncated")
        return super().read_rows(count)


class BrokenSink(ArraySink):
    """Fails at its second block, and counts how often it was aborted."""

    aborted = 0

    def write_rows(self, rows_hwc):
        if self._row:
            raise ImageWriteError("full: no room")
        super().write_rows(rows_hwc)

    def abort(self):
        self.aborted += 1


@pytest.mark.parametrize("where", ["open", "read", "sink", "write"])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_one_bad_image_never_stops_or_changes_the_others(where, position):
    images = [noise_image(100, 60, seed=seed) for seed in range(5)]
    jobs = [array_job(image, str(index)) for index, image in enumerate(images)]

    def refuse(*_):
        raise ImageReadError("bad.png: no")

    jobs[position] = {
        "open": ImageJob("bad", refuse, ArraySink),
        "read": ImageJob("bad", lambda: BrokenSource(images[0]), ArraySink),
        "sink": ImageJob("bad", lambda: ArraySource(images[0]), refuse),
        "write": ImageJob("bad", lambda: ArraySource(images[0]), BrokenSink),
    }[where]
    outcomes = {outcome.index: outcome for outcome in Pipeline(ToyEngine(), plan(32, 8, 2, batch=4)).run(jobs)}
    assert set(outcomes) == set(range(5))
    for index, image in enumerate(images):
        if index == position:
            assert outcomes[index].error
            assert where != "write" or outcomes[index].sink.aborted
        else:
            assert outcomes[index].error is None
            assert np.array_equal(outcomes[index].sink.pixels_hwc, image)


class NanEngine(ToyEngine):
    """Answers NaN where a tile holds pure white."""

    def answer(self, batch_nchw):
        batch = batch_nchw.copy()
        batch[(batch_nchw == 1).all(axis=(1, 2, 3))] = np.nan
        return super().answer(batch)


def test_nan_fails_its_image_alone_and_says_where():
    good, bad = noise_image(64, 64), noise_image(64, 64, seed=1)
    bad[32:, :32] = 255
    outcomes = {o.index: o for o in Pipeline(NanEngine(), plan(32, batch=8)).run(map(array_job, [good, bad, good]))}
    assert "y = 32, x = 0" in str(outcomes[1].error)
    assert np.array_equal(outcomes[0].sink.pixels_hwc, good)
    assert np.array_equal(outcomes[2].sink.pixels_hwc, good)


class HalfEngine(NanEngine):
    """Has an answer in float32 too, which fails for tiles with a black corner."""

    def run_exact(self, batch_nchw):
        assert batch_nchw.shape[0] == 1
        return batch_nchw * (np.nan if batch_nchw[0, 0, 0, 0] == 0 else 1)


def test_a_tile_that_overflows_is_redone_alone_and_counted():
    good, redone = noise_image(64, 64), noise_image(64, 64, seed=1)
    redone[32:, :32] = 255
    pipeline = Pipeline(HalfEngine(), plan(32, batch=8))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, [good, redone, good]))}
    for index, image in enumerate((good, redone, good)):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, image)
    assert pipeline.stats().redone == 1


def test_a_tile_that_overflows_in_float32_too_fails_its_image_alone():
    class Hopeless(HalfEngine):
        def run_exact(self, batch_nchw):
            return batch_nchw * np.nan

    class Unaided(HalfEngine):
        def run_exact(self, batch_nchw):
            return None

    class Failing(HalfEngine):
        def run_exact(self, batch_nchw):
            raise ModelOutputError("toy: no")

    good, bad = noise_image(64, 64), noise_image(64, 64, seed=1)
    bad[:32, 32:] = 255
    for kind in (Hopeless, Unaided, Failing):
        pipeline = Pipeline(kind(), plan(32, batch=8))
        outcomes = {o.index: o for o in pipeline.run(map(array_job, [good, bad, good]))}
        assert "y = 0, x = 32" in str(outcomes[1].error)
        assert np.array_equal(outcomes[0].sink.pixels_hwc, good)
        assert np.array_equal(outcomes[2].sink.pixels_hwc, good)
        assert pipeline.stats().redone == 0


def test_closing_early_stops_all_threads():
    before = threading.active_count()
    outcomes = Pipeline(ToyEngine(), plan(32)).run(array_job(noise_image(64, 64)) for _ in range(1000))
    next(outcomes)
    outcomes.close()
    for thread in threading.enumerate():
        if thread.name == "sr-tile feed":  # whoever iterates the caller's jobs is never waited for
            thread.join(5)
    assert threading.active_count() == before


def test_a_defect_in_a_thread_reaches_the_caller():
    class Defect(ToyEngine):
        def answer(self, batch_nchw):
            raise ZeroDivisionError("defect")

    with pytest.raises(ZeroDivisionError, match="defect"):
        run([noise_image(64, 64)], Defect(), plan(32))


def test_figures_count_every_item():
    engine = ToyEngine()
    seen = []
    pipeline = Pipeline(engine, plan(32, 8, 2, batch=4), on_progress=lambda job, pixels: seen.append(pixels))
    list(pipeline.run(map(array_job, [noise_image(100, 70)] * 3)))
    stats = pipeline.stats()
    stages = {stage.name: stage for stage in stats.stages}
    assert stages["decode"].items_in == stages["encode"].items_out == stats.images
    assert stages["decode"].items_out == stages["tile"].items_in == 3 * 4
    assert (
        stages["tile"].items_out
        == stages["infer"].items_in
        == stages["infer"].items_out
        == stages["blend"].items_in
        == 36
    )
    assert stages["blend"].items_out == stages["encode"].items_in
    assert len(engine.shapes) == 9
    assert stats.tile == (32, 32)
    assert stats.images == 3
    assert stats.redundancy == pytest.approx(12 * 32 * 32 / 7000)
    assert sum(seen) == 3 * 7000
    assert stats.bottleneck in stages
    for stage in stats.stages:
        assert stage.shortest <= stage.mean <= stage.longest <= stage.busy
    list(pipeline.run([array_job(noise_image(100, 70))]))
    both = pipeline.stats()
    assert both.images == 4
    assert both.seconds > stats.seconds
    assert 0 <= both.engine_idle < 1
    pipeline.reset_stats()
    list(pipeline.run([array_job(noise_image(100, 70))]))
    assert pipeline.stats().images == 1


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


def test_plan_refuses_what_cannot_be():
    with pytest.raises(GeometryError, match="overlap"):
        plan(32, 32).grid(100, 100)


@pytest.mark.parametrize("alpha", ["bicubic", "model"])
def test_what_nobody_saw_is_not_seen_around_alpha_that_the_network_enlarges(alpha):
    """A white disc on black that is fully transparent, as editors store it, over white."""
    y, x = np.mgrid[:96, :96]
    rgba = np.zeros((96, 96, 4), np.uint8)
    rgba[(x - 48) ** 2 + (y - 48) ** 2 < 900] = 255
    with Enhancer("clean-x2", device="cpu", precision="fp32", alpha=alpha) as enhancer:
        result = enhancer.enhance(rgba).astype(float)
    opacity = result[..., 3:] / 255
    assert (result[..., :3] * opacity + 255 * (1 - opacity)).min() >= 250
