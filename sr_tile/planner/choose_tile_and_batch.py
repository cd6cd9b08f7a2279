"""Which tile and batch: the cheapest by what was measured, else by rule; never more than fits into memory."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sr_tile.engines.base import Engine
from sr_tile.errors import OutOfMemoryError
from sr_tile.planner.costs import Costs
from sr_tile.planner.measure_calls import measure, pixels_to_measure, remembered, shapes_to_measure, values_per_pixel
from sr_tile.planner.plan import TIE_TOLERANCE, Plan
from sr_tile.planner.settings import Settings
from sr_tile.planner.tiles import plan_tiles
from sr_tile.system import memory
from sr_tile.system.cache import cache_folder

log = logging.getLogger("sr_tile")

HEADROOM = 0.9
WAITING_BATCHES = 4  # queued before and behind the engine, or in the hands of their stages
# Enough work a call to fill the device, where nothing was measured. More only costs memory, and past some point time.
PIXELS_PER_CALL = {"cpu": 512 * 512, "gpu": 2048 * 2048}
ASSUMED_PRICE = 8192.0  # bytes a pixel of a call, where nothing was measured: several times what most networks take
REFERENCE_SIZE = (3000, 4000)  # what plans are weighed by
MAX_EXTRAPOLATION = 4  # times the pixels that were measured: as far as tiles may go
LEAST_REDUNDANCY = 1.12  # of a photograph, that larger tiles are for where nothing was measured
LARGE_WORK = 16  # times the pixels of measuring: work that pays for it whatever comes of it


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes to work in.

    Attributes:
        all: for sessions and rows of pixels, in RAM.
        call: for one call of the session, on its device.
        bounded: a limit of the user holds, so that nothing may be assumed.
        on_cpu: the session's memory is RAM as well.
        waiting: bytes of RAM for each pixel of a call: batches on their way in and out.
        parallel_rows: see `Engine`.
    """

    all: float
    call: float
    bounded: bool
    on_cpu: bool
    waiting: float
    parallel_rows: int

    @classmethod
    def of(cls, engines: Sequence[Engine], settings: Settings) -> "MemoryBudget":
        """What is free now, or the limit leaves."""
        engine = smallest(engines)
        workers = sum(
            engine.max_concurrency for engine in engines
        )  # each has a batch in hand, and an output that waits
        on_cpu = engine.uses_host_memory
        budget = HEADROOM * memory.free_ram()
        if settings.mem_limit is not None:
            budget = min(budget, HEADROOM * settings.mem_limit - memory.process_ram())
        # On a CPU half of the budget is for the session, half for rows of pixels.
        call = budget / 2 if on_cpu else HEADROOM * engine.memory_free() / engine.max_concurrency
        waiting = 4.0 * (WAITING_BATCHES + 2 * (workers - 1)) * values_per_pixel(engine.spec)
        bounded = settings.mem_limit is not None and on_cpu
        return cls(budget, call, bounded, on_cpu, waiting, engine.parallel_rows)

    def bytes_per_pixel(self, costs: Costs | None) -> float:
        """Bytes that one pixel more in a call takes."""
        return (costs.bytes_per_pixel if costs else ASSUMED_PRICE) + (self.waiting if self.on_cpu else 0.0)

    def call_bytes(self, costs: Costs | None, pixels: float) -> float:
        """Bytes that a call takes."""
        return self.bytes_per_pixel(costs) * pixels + (costs.call_bytes(0) if costs else 0.0)

    def rows(self, costs: Costs | None, pixels: float) -> int:
        """Tiles of so many pixels that fit into a call."""
        return int((self.call - self.call_bytes(costs, 0)) / (self.bytes_per_pixel(costs) * pixels))


def smallest(engines: Sequence[Engine]) -> Engine:
    """The one with the least memory: tiles and batches are the same for all, so they must fit into it."""
    return min(engines, key=lambda engine: engine.memory_free())


def make_plan(
    engines: Engine | Sequence[Engine],
    settings: Settings,
    *,
    images_in_flight: int = 3,
    expected_pixels: int | None = None,
    remeasure: bool = False,
) -> Plan:
    """Tiles by wish and model, tile and batch by memory and measured costs, and what is left for rows under way.

    Args:
        engines: the model on its device, or on several that work side by side.
        settings: what the user asks for.
        images_in_flight: images whose rows are in memory at the same time; `Enhancer` reads two and writes a third.
        expected_pixels: pixels of all images to come, as far as is known: what pays for measuring, if nothing is remembered.
        remeasure: measure again, whatever is remembered and however little there is to do.

    Raises:
        GeometryError: tile, overlap and halo do not fit together.
        OutOfMemoryError: there is no room for one tile, however small.
    """
    engines = list(engines) if isinstance(engines, Sequence) else [engines]
    engine = smallest(engines)
    plan = replace(plan_tiles(engine.spec, settings), width_step=engine.width_step)
    budget = MemoryBudget.of(engines, settings)
    if engine.prefers_few_shapes:  # each new shape is built for minutes
        plan, expected_pixels = replace(plan, sides=(), equalised=False, fitted=False), None
    costs = find_costs(engine, plan, settings, budget, expected_pixels=expected_pixels, remeasure=remeasure)
    if costs or budget.bounded:
        plan = _shrunk(plan, budget, costs)
    options, known = candidates(plan, settings, budget, costs), costs
    if options:
        plan = best_of(options, plan.tile)
    else:
        if costs is None:
            known = _costs_of_small_calls(engine, plan, budget, expected_pixels) if budget.on_cpu else None
            plan = _grown(plan, budget, known, settings) if known or not budget.on_cpu else plan
        plan = _by_rule(plan, settings, budget, known)
    fixed = engine.spec.fixed_batch
    if fixed and settings.batch not in ("auto", fixed):
        log.warning(
            "model %s takes batches of %d only; --batch-size %s is ignored", engine.spec.name, fixed, settings.batch
        )
    elif settings.batch not in ("auto", fixed, plan.batch):
        log.warning("--mem-limit leaves room for batches of %d, not %s", plan.batch, settings.batch)
    plan = replace(plan, batch=fixed or plan.batch)
    assumed = settings.batch != "auto" and not budget.bounded  # the user's batch is the user's care
    bytes_per_pixel = budget.bytes_per_pixel(known) if budget.on_cpu and not assumed else budget.waiting
    taken = plan.batch * max(math.prod(plan.tile), max(plan.sides, default=0) ** 2) * bytes_per_pixel
    # Half is for rows at any rate: a batch that is never full, and a tile beyond the picture, take less than they could.
    return replace(plan, strip_budget=(budget.all - min(taken, budget.all / 2)) / images_in_flight)


def find_costs(
    engine: Engine,
    plan: Plan,
    settings: Settings,
    budget: MemoryBudget,
    *,
    expected_pixels: int | None,
    remeasure: bool,
) -> Costs | None:
    """Costs remembered, or measured where that pays or nothing may be assumed of the memory; None without either."""
    largest = max(plan.sides, default=0)
    shapes = shapes_to_measure(engine, (largest, largest) if largest else plan.tile)
    if remeasure or worth_measuring(plan, expected_pixels, pixels_to_measure(shapes), budget.on_cpu):
        return measure(engine, shapes, budget.call, remeasure=remeasure)
    known = remembered(engine, shapes)
    if known is None and not budget.on_cpu:  # for a photograph, all but the largest may pay
        roomy = _grown(plan, budget, None, settings)
        if worth_measuring(roomy, expected_pixels, pixels_to_measure(shapes[:-1])):
            return measure(engine, shapes[:-1] or shapes, budget.call)
    needed = math.prod(plan.tile)
    if expected_pixels is not None and plan.fitted:
        needed = min(needed, expected_pixels)
    if budget.bounded or (
        known is None and settings.batch == "auto" and budget.bytes_per_pixel(None) * needed > budget.call
    ):
        small = [shape for shape in shapes if math.prod(shape) <= math.prod(plan.tile)]
        found = measure(engine, small or shapes[:1], budget.call)
        return known if known and found and known.largest > found.largest else found
    return known


def worth_measuring(plan: Plan, expected_pixels: int | None, measured_pixels: int, on_cpu: bool = False) -> bool:
    """Whether measuring, which runs `measured_pixels` pixels through the network, saves more than it costs.

    For sure where it saves that many pixels of being computed twice; for large work at any rate. On a processor `_grown`
    saves those for less.
    """
    if expected_pixels is None or not plan.fitted:
        return False
    sides = [replace(plan, tile=(side, side)) for side in plan.sides]
    least = min((option.grid(*REFERENCE_SIZE).redundancy for option in sides), default=math.inf)
    saved = expected_pixels * (plan.grid(*REFERENCE_SIZE).redundancy - least)
    return (saved > measured_pixels and not on_cpu) or expected_pixels > LARGE_WORK * measured_pixels


def candidates(plan: Plan, settings: Settings, budget: MemoryBudget, costs: Costs | None) -> list[Plan]:
    """Every (side, batch) that fits into memory and lies near what was measured.

    `sides` of each are those with room for its batch, for images which they suit better.
    """
    if not costs or not plan.fitted:
        return []
    sides = [side for side in plan.sides if side**2 <= MAX_EXTRAPOLATION * costs.largest]
    if plan.sides and not sides:
        return []
    most = {side: budget.rows(costs, side**2) for side in sides}
    found = []
    for tile in [(side, side) for side in sides] or [plan.tile]:
        pixels = math.prod(tile)
        fits = max(0, budget.rows(costs, pixels))
        if settings.batch == "auto":
            useful = min(fits, max(budget.parallel_rows, costs.largest // pixels))
            batches = [2**power for power in range(useful.bit_length())]
            batches = [batch for batch in batches if batch >= budget.parallel_rows] or batches
        elif budget.bounded:
            batches = [min(fits, settings.batch)] if fits else []
        else:
            batches = [settings.batch] if fits >= settings.batch else []
        for batch in batches:
            shared = tuple(side for side in sides if most[side] >= batch)
            found.append(replace(plan, tile=tile, batch=batch, sides=shared, costs=costs))
    return found


def best_of(options: list[Plan], recommended: tuple[int, int]) -> Plan:
    """Of those that do a photograph as fast as the best: the recommended tile, or else the smallest call."""
    seconds = [_seconds(option) for option in options]
    good = [option for option, time in zip(options, seconds, strict=True) if time <= TIE_TOLERANCE * min(seconds)]
    kept = [option for option in good if option.tile == recommended]
    return min(kept or good, key=lambda option: (option.batch * math.prod(option.tile), option.tile))


def _seconds(option: Plan) -> float:
    assert option.costs is not None  # of a candidate
    return option.costs.seconds_of(replace(option, sides=()).grid(*REFERENCE_SIZE), option.batch)


def _larger(plan: Plan) -> list[int]:
    """Sides of tiles that would compute less twice, rising; none where little is."""
    return [side for side in plan.sides if side > max(plan.tile)] if _redundancy(plan) > LEAST_REDUNDANCY else []


def _costs_of_small_calls(
    engine: Engine, plan: Plan, budget: MemoryBudget, expected_pixels: int | None
) -> Costs | None:
    """What two small calls take on a processor, where tiles would grow; they say nothing of the time of large calls.

    There a pixel costs about the same in tiles of any size, so no time has to be measured for that.
    """
    if not (sides := _larger(plan)):
        return None
    shapes = shapes_to_measure(engine, (min(sides), min(sides)))[:2]
    if expected_pixels is None or expected_pixels < LARGE_WORK * pixels_to_measure(shapes):
        return None
    return measure(engine, shapes, budget.call, folder=cache_folder("memory"))


def _grown(plan: Plan, budget: MemoryBudget, known: Costs | None, settings: Settings) -> Plan:
    """With tiles so large that little is computed twice, as far as there is memory for them."""
    rows = budget.parallel_rows if settings.batch == "auto" else settings.batch
    for side in _larger(plan):
        if budget.rows(known, side**2) < rows:
            break
        plan = replace(plan, tile=(side, side))
        if _redundancy(plan) <= LEAST_REDUNDANCY:
            break
    return plan


def _redundancy(plan: Plan) -> float:
    return replace(plan, sides=()).grid(*REFERENCE_SIZE).redundancy


def _by_rule(plan: Plan, settings: Settings, budget: MemoryBudget, costs: Costs | None) -> Plan:
    """The recommended tile, and a batch that fills the device by experience; a power of 2 where memory is short."""
    plan = replace(plan, sides=())
    if settings.batch != "auto" and not budget.bounded:
        return replace(plan, batch=settings.batch)
    pixels = math.prod(plan.tile)
    fits = max(1, budget.rows(costs, pixels))
    if settings.batch != "auto":
        return replace(plan, batch=min(fits, settings.batch))
    wanted = max(budget.parallel_rows, PIXELS_PER_CALL["cpu" if budget.on_cpu else "gpu"] // pixels)
    return replace(plan, batch=wanted if wanted <= fits else 2 ** (fits.bit_length() - 1))


def _shrunk(plan: Plan, budget: MemoryBudget, costs: Costs | None) -> Plan:
    """The plan with tiles so small that one of them fits, where its memory is known."""
    while budget.rows(costs, math.prod(plan.tile)) < 1:
        try:
            plan = plan.smaller()
        except OutOfMemoryError:
            if not budget.bounded:
                return plan  # the device has the last word
            needed = 2 * budget.call_bytes(costs, math.prod(plan.tile)) + memory.process_ram()
            raise OutOfMemoryError(
                f"--mem-limit leaves {memory.format_size(max(0, 2 * budget.call))} to work in, and the smallest tiles, "
                f"{plan.tile[0]} x {plan.tile[1]}, need about {memory.format_size(needed / HEADROOM)} in all; raise it"
            ) from None
    return plan
