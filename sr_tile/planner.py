"""How large tiles and batches are: what the user says, what the model says, and what fits into memory.

The memory of one call grows with the pixels of its batch. A probe runs the model at three shapes and keeps the price of a
pixel in the user's cache folder, by (model, runtime, device, number type) and tile.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import platformdirs

from sr_tile import memory
from sr_tile.engines.base import Engine, lanes_of, on_host
from sr_tile.errors import ArgumentError, GeometryError, OutOfMemoryError
from sr_tile.geometry import Axis, TileGrid, equalised_tile
from sr_tile.spec import ModelSpec

log = logging.getLogger("sr_tile")

Auto = Literal["auto"]

HEADROOM = 0.9
DEFAULT_TILE = 256
SMALLEST_TILE = 32
ENCODED_BYTES = 2**25  # blocks of finished rows on their way to the encoder
WAITING_BATCHES = 4  # queued before and behind the engine, or in the hands of their stages
# Enough work a call to fill the device. More only costs memory, and past some point time as well.
PIXELS_PER_CALL = {"cpu": 512 * 512, "gpu": 2048 * 2048}


@dataclass(frozen=True)
class Settings:
    """What a user asks for, in pixels and rows; `auto` and None leave it to the model and the machine.

    Attributes:
        tile: side of a tile.
        overlap: what two neighbouring tiles share.
        halo: how much of it each tile discards at its edge.
        batch: rows a call.
        mem_limit: bytes that the whole process may take.
    """

    tile: int | Auto = "auto"
    overlap: int | Auto = "auto"
    halo: int | None = None
    batch: int | Auto = "auto"
    mem_limit: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("tile", 1), ("overlap", 0), ("halo", 0), ("batch", 1)):
            value = getattr(self, name)
            if value not in ("auto", None) and (not isinstance(value, int) or value < least):
                raise ArgumentError(f"{name} is {value!r}; it must be `auto` or a whole number from {least} up")


@dataclass(frozen=True)
class Plan:
    """Tiles of one job.

    Attributes:
        tile: (height, width) of a tile at most.
        fitted: tiles shrink to what the image needs; otherwise they keep their size even where the image is smaller.
        equalised: tiles also shrink where the same number of smaller ones covers.
        overlap: pixels two neighbouring tiles share at least.
        halo: pixels of it that each tile discards.
        multiple: tiles start and end at multiples of it.
        batch: rows a call.
        band_budget: bytes that one image under way may take outside the session, None for no bound.
    """

    tile: tuple[int, int]
    overlap: int
    halo: int
    multiple: int
    batch: int = 1
    band_budget: float | None = None
    fitted: bool = True
    equalised: bool = False

    def grid(self, height: int, width: int) -> TileGrid:
        """The tiles of an image of (height, width) pixels.

        The grid of an image depends on nothing but its size and the plan, so that an image comes out the same alone
        and in a list.
        """
        y, x = (self._axis(length, tile) for length, tile in zip((height, width), self.tile, strict=True))
        return TileGrid(y, x)

    def _axis(self, length: int, tile: int) -> Axis:
        if self.equalised:
            tile = equalised_tile(length, tile, self.overlap, self.multiple)
        elif self.fitted:
            tile = min(tile, -(-length // self.multiple) * self.multiple)
        return Axis(length, tile, self.overlap, self.halo, self.multiple)

    def grid_for(self, height: int, width: int, channels: int, scale: int) -> TileGrid:
        """`grid`, with lower tiles where the image is so wide that its bands would break `band_budget`.

        Args:
            height: rows of the image.
            width: columns of the image.
            channels: of the image.
            scale: output pixels per input pixel.

        Raises:
            OutOfMemoryError: not even the smallest tiles fit.
        """
        plan, grid = self, self.grid(height, width)
        while self.band_budget is not None and (needed := band_bytes(grid, channels, scale)) > self.band_budget:
            try:
                plan = replace(plan, tile=(plan.smaller().tile[0], plan.tile[1]))
            except OutOfMemoryError:
                raise OutOfMemoryError(
                    f"an image {width} pixels wide needs {memory.format_size(needed)} for its rows under way, and "
                    f"{memory.format_size(max(0, self.band_budget))} are left for them; use a smaller --tile-size or "
                    "--batch-size, or give it more memory (--mem-limit)"
                ) from None
            grid = plan.grid(height, width)
        return grid

    def with_halo(self, least: int) -> "Plan":
        """The plan with a halo of at least `least` pixels, and an overlap that has room for it."""
        halo = max(self.halo, least)
        return replace(self, halo=halo, overlap=max(self.overlap, 2 * halo))

    def smaller(self) -> "Plan":
        """The plan with half the tile, for a device that ran out of memory.

        Raises:
            OutOfMemoryError: the tile cannot become smaller.
        """
        half = tuple(max(1, side // 2 // self.multiple) * self.multiple for side in self.tile)
        if not self.fitted or half == self.tile or min(half) < SMALLEST_TILE:
            raise OutOfMemoryError(
                f"out of memory with one tile of {self.tile[0]} x {self.tile[1]} pixels, which cannot become smaller; "
                "free some memory, or use a smaller model"
            )
        if self.overlap > min(half) - self.multiple:
            raise OutOfMemoryError(
                f"out of memory with one tile of {self.tile[0]} x {self.tile[1]} pixels; half of that has no room for "
                f"the overlap of {self.overlap}: use a smaller --overlap, or free some memory"
            )
        return replace(self, tile=(half[0], half[1]), batch=1)


def plan_tiles(spec: ModelSpec, settings: Settings) -> Plan:
    """Tile, overlap and halo by the user's wish, then the model's metadata, then the defaults; batch is 1.

    Raises:
        GeometryError: they do not fit together.
    """
    multiple = spec.multiple or 1
    halo = settings.halo if settings.halo is not None else spec.halo
    if spec.fixed_tile:
        tile = spec.fixed_tile
        if settings.tile not in ("auto", *tile):
            log.warning(
                "model %s takes tiles of %d x %d only; --tile-size %s is ignored", spec.name, *tile, settings.tile
            )
    elif settings.tile == "auto":
        side = -(-(spec.tile or DEFAULT_TILE) // multiple) * multiple
        tile = (side, side)
    else:
        if settings.tile % multiple:
            raise GeometryError(
                f"tile size {settings.tile} is no multiple of {multiple}, which model {spec.name} needs; "
                f"use {max(1, settings.tile // multiple) * multiple} or {-(-settings.tile // multiple) * multiple}"
            )
        tile = (settings.tile, settings.tile)
    if settings.halo is None and halo is not None and 2 * halo > min(tile) // 2:
        halo = None  # a network that looks this far leaves nothing of its tile: blending must do
    if settings.overlap != "auto":
        overlap = settings.overlap
    elif halo is None:
        overlap = min(tile) // 4
    else:
        # Beyond a halo that covers the whole receptive field all tiles agree, and nothing is left to blend.
        overlap = 2 * halo + (halo if int(spec.details.get("receptive_field") or 0) > halo else 0)
    if halo is None:
        halo = overlap // 4
    elif settings.halo is None:
        halo = min(halo, overlap // 2)
    if overlap > min(tile) - multiple:
        raise GeometryError(
            f"overlap {overlap} is too large for tiles of {tile[0]} x {tile[1]} pixels, which advance by {multiple} or "
            f"more; use an overlap of at most {max(0, min(tile) - multiple)}, or a larger tile"
        )
    automatic = settings.tile == "auto" and not spec.fixed_tile
    return Plan(tile, overlap, halo, multiple, fitted=not spec.fixed_tile, equalised=automatic)


def values_per_pixel(spec: ModelSpec) -> int:
    """Numbers that one input pixel is worth, going in and coming out."""
    return spec.channels * (1 + (spec.scale or 1) ** 2)


def probe_memory(engine: Engine, plan: Plan) -> float:
    """Bytes of device memory that a call takes for each input pixel, measured on a fresh session.

    The session keeps what it took in its arena, so what is in use after a call is what the call needed. Allocators round
    and reuse, so of a quarter, a half and all of one tile the dearest is the safe price.
    """
    height, width = plan.tile
    shapes = [(engine.spec.fixed_batch or 1, height, width)]
    if plan.fitted:
        sides = [max(plan.multiple, side // 2 // plan.multiple * plan.multiple) for side in plan.tile]
        shapes = [(1, sides[0], sides[1]), (1, sides[0], width), (1, height, width)]
    engine.rebuild()
    before = engine.memory_used()
    dearest = 4.0 * values_per_pixel(engine.spec)
    for rows, tile_height, tile_width in shapes:
        engine.run(np.full((rows, engine.spec.channels, tile_height, tile_width), 0.5, np.float32))
        dearest = max(dearest, (engine.memory_used() - before) / (rows * tile_height * tile_width))
    return dearest


def cached_probe(engine: Engine, plan: Plan, folder: Path | None = None) -> float:
    """`probe_memory`, remembered on disk; a cache that cannot be read or written is no error."""
    folder = folder or Path(platformdirs.user_cache_dir("sr-tile", appauthor=False)) / "probes"
    key = hashlib.sha256(f"{engine.identity}-{plan.tile}".encode()).hexdigest()[:32]
    path = folder / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return float(json.loads(path.read_text())["bytes_per_pixel"])
    price = probe_memory(engine, plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.{id(engine)}.part")
        temporary.write_text(json.dumps({"bytes_per_pixel": price}))
        temporary.replace(path)
    except OSError as error:
        log.debug("the memory probe is not remembered: %s", error)
    return price


def band_bytes(grid: TileGrid, channels: int, scale: int) -> int:
    """Bytes of RAM that one image under way takes outside the session, 16 bits a value at worst.

    Four bands of input are read or wait, one band of output is blended in float32, some blocks of it are encoded.
    """
    decoded = 4 * grid.y.tile * grid.x.length * channels * 2
    blended = grid.y.tile * scale * grid.x.length * scale * channels * 4
    return decoded + blended + ENCODED_BYTES


def make_plan(engine: Engine, settings: Settings, images_under_way: int = 2, workers: int = 1) -> Plan:
    """Tiles by wish and model, the batch by memory and device, and what is left for rows under way.

    Args:
        engine: the model on its device.
        settings: what the user asks for.
        images_under_way: images whose rows are in memory at the same time.
        workers: threads that call engines; each has a batch in hand, and an output that waits for its turn.

    Raises:
        GeometryError: tile, overlap and halo do not fit together.
        OutOfMemoryError: there is no room for one tile, however small.
    """
    plan = plan_tiles(engine.spec, settings)
    on_cpu = on_host(engine)
    if not on_cpu:
        plan = replace(plan, equalised=False)  # a GPU pays for each new shape
    room = HEADROOM * memory.free_ram()
    if settings.mem_limit is not None:
        room = min(room, HEADROOM * settings.mem_limit - memory.process_ram())
    bounded = settings.mem_limit is not None and on_cpu
    # Beside what the device holds, some batches wait on the host, going in and coming out.
    waiting = 4.0 * (WAITING_BATCHES + 2 * (workers - 1)) * values_per_pixel(engine.spec)
    if settings.batch != "auto" and not bounded:
        batch = settings.batch
        taken = batch * math.prod(plan.tile) * waiting
    else:
        # On a CPU half of the room is for the session, half for rows of pixels.
        budget = room / 2 if on_cpu else HEADROOM * engine.memory_free() / lanes_of(engine)
        plan, price = _fitting_price(engine, plan, budget, waiting if on_cpu else 0.0, bounded)
        pixels = math.prod(plan.tile)
        fits = int(budget / (price * pixels))
        wanted = settings.batch
        if wanted == "auto":
            wanted = PIXELS_PER_CALL["cpu" if on_cpu else "gpu"] // pixels
        elif fits < wanted:
            log.warning("--mem-limit leaves room for batches of %d, not %d", max(1, fits), wanted)
        batch = max(1, min(fits, wanted))
        taken = batch * pixels * (price if on_cpu else waiting)
    fixed = engine.spec.fixed_batch
    if fixed and settings.batch not in ("auto", fixed):
        log.warning(
            "model %s takes batches of %d only; --batch-size %s is ignored", engine.spec.name, fixed, settings.batch
        )
    return replace(plan, batch=fixed or batch, band_budget=(room - taken) / images_under_way)


def _fitting_price(engine: Engine, plan: Plan, budget: float, waiting: float, bounded: bool) -> tuple[Plan, float]:
    """The plan with tiles so small that one of them fits, and the bytes that one of its pixels costs."""
    while True:
        try:
            price = cached_probe(engine, plan) + waiting
            break
        except OutOfMemoryError:
            engine.rebuild()
            plan = plan.smaller()
    while bounded and price * math.prod(plan.tile) > budget:
        try:
            plan = plan.smaller()
        except OutOfMemoryError:
            needed = 2 * price * math.prod(plan.tile) + memory.process_ram()
            raise OutOfMemoryError(
                f"--mem-limit leaves {memory.format_size(max(0, 2 * budget))} to work in, and the smallest tiles, "
                f"{plan.tile[0]} x {plan.tile[1]}, need about {memory.format_size(needed / HEADROOM)} in all; raise it"
            ) from None
    return plan, price
