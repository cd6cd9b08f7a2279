"""Many images through one pipeline."""

import threading

import numpy as np
import pytest
from support.pipelines import array_job, plan, run
from support.toys import BoxBlurEngine, ToyEngine, noise_image

from sr_tile.errors import GeometryError
from sr_tile.pipeline.pipeline import Pipeline


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


def test_plan_refuses_what_cannot_be():
    with pytest.raises(GeometryError, match="overlap"):
        plan(32, 32).grid(100, 100)
