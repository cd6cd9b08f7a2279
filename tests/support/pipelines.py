"""Pipelines over arrays in a line."""

from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan


def array_job(image, name="image"):
    return ImageJob(name, lambda: ArraySource(image), ArraySink)


def run(images, engine, plan, **keywords):
    outcomes = sorted(Pipeline(engine, plan, **keywords).run(map(array_job, images)), key=lambda o: o.index)
    assert [outcome.index for outcome in outcomes] == list(range(len(images)))
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
    return [outcome.sink.pixels_hwc for outcome in outcomes]


def plan(tile, overlap=0, halo=0, multiple=1, **keywords):
    return Plan((tile, tile), overlap, halo, multiple, **keywords)
