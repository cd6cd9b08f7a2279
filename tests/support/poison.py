"""Images that kill the process that works on them, wherever Ray runs it; importable by its workers."""

import os
from pathlib import Path

from sr_tile.distributed import ray_data, tasks

_decode, _Actor = tasks.decode, ray_data.Actor


def _die(source):
    if "poison" in source:
        with Path(source).with_suffix(".tries").open("a") as file:
            file.write("x")
        os._exit(1)


def decode(row, config):
    _die(row["source"])
    return _decode(row, config)


class Actor(_Actor):
    def __call__(self, batch):
        for source in batch["source"]:
            _die(source)
        yield from super().__call__(batch)
