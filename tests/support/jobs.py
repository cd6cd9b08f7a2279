"""Resumable jobs for tests, whose engine stops where it is told."""

import json
import time
from pathlib import Path

import numpy as np
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.jobs.journal import NAME
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings

SETTINGS = {"model": "toy", "tile": 16}


class StoppedError(BaseException):
    """What a kill is, inside one process."""


class ShadingEngine(ToyEngine):
    """Its answer depends on the tile, so that other tiles give other bytes; it may stop at a call, once some is kept."""

    def __init__(self, stop_at=None, strips=None, kept=0):
        super().__init__(ModelSpec("shading", scale=2, multiple=1))
        self.stop_at, self.strips, self.kept = stop_at, strips, kept

    def answer(self, batch_nchw):
        if self.stop_at is not None and len(self.shapes) > self.stop_at:
            while self.kept and len(list(Path(self.strips).rglob("*-*"))) < self.kept:
                time.sleep(0.01)  # what was computed before is on its way
            raise StoppedError
        return super().answer(batch_nchw * np.linspace(1, 0.5, batch_nchw.shape[2], dtype=np.float32)[:, None])


def enhancer(engine=None, tile=16, **keywords):
    settings = Settings(tile=tile, overlap=4, halo=1, batch=2)
    return Enhancer(engine or ShadingEngine(), settings=settings, max_in_flight=1, **keywords)


def run(folder, pairs, worker=None, settings=SETTINGS, restart=False, **keywords):
    with ResumableJob(folder, settings, restart=restart) as job:
        return {Path(result.source).name: result for result in job.run(worker or enhancer(), pairs, **keywords)}


def lines(folder, event=None):
    found = [json.loads(line) for line in (Path(folder) / NAME).read_text().splitlines()]
    return [line for line in found if event in (None, line["event"])]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
