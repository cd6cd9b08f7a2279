"""Which tile and batch: the cheapest by what was measured, else by rule; never more than fits into memory."""

import logging
import math
from dataclasses import dataclass, replace

from sr_tile.engines.base import Engine, max_concurrency_of, on_host
from sr_tile.errors import OutOfMemoryError
from sr_tile.planner.costs import Costs
from sr_tile.planner.measure import measure, pixels_to_measure, remembered, shapes_to_measure, values_per_pixel
from sr_tile.planner.plan import AS_GOOD, Plan
from sr_tile.planner.settings import Settings
from sr_tile.planner.tiles import plan_tiles
from sr_tile.system import memory

log = logging.getLogger("sr_tile")

HEADROOM = 0.9
WAITING_BATCHES = 4  # queued before and behind the engine, or in the hands of their stages
# Enough work a call to fill the device, where nothing was measured. More only costs memory, and past some point time.
PIXELS_PER_CALL = {"cpu": 512 * 512, "gpu": 2048 * 2048}
ASSUMED_PRICE = 8192.0  # bytes a pixel of a call, where nothing was measured: several times what most networks take
PHOTOGRAPH = (3000, 4000)  # what plans are weighed by
BEYOND = 2  # times the pixels that were measured: as far as tiles may go
LARGE_WORK = 16  # times the pixels of measuring: work that pays for it whatever comes of it


@dataclass(frozen=True)
class Room:
    """Bytes to work in.

    Attributes:
        all: for sessions and rows of pixels, in RAM.
        call: for one call of the session, on its device.
        bounded: a limit of the user holds, so that nothing may be assumed.
        on_cpu: the session's memory is RAM as well.
        waiting: bytes of RAM for each pixel of a call: batches on their way in and out.
    """

    all: float
    call: float
    bounded: bool
    on_cpu: bool
    waiting: float

    @classmethod
    def of(cls, engine: Engine, settings: Settings, workers: int = 1) -> "Room":
        """What is free now, or the limit leaves."""
        on_cpu = on_host(engine)
        room = HEADROOM * memory.free_ram()
        if settings.mem_limit is not None:
            room = min(room, HEADROOM * settings.mem_limit - memory.process_ram())
        # On a CPU half of the room is for the session, half for rows of pixels.
        call = room / 2 if on_cpu else HEADROOM * engine.memory_free() / max_concurrency_of(engine)
        waiting = 4.0 * (WAITING_BATCHES + 2 * (workers - 1)) * values_per_pixel(engine.spec)
        return cls(room, call, settings.mem_limit is not None and on_cpu, on_cpu, waiting)

    def price(self, costs: Costs | None) -> float:
        """Bytes that a pixel of a call takes."""
        return (costs.bytes_per_pixel if costs else ASSUMED_PRICE) + (self.waiting if self.on_cpu else 0.0)


def make_plan(
    engine: Engine,
    settings: Settings,
    images_under_way: int = 2,
    workers: int = 1,
    *,
    work: int | None = None,
    fresh: bool = False,
) -> Plan:
    """Tiles by wish and model, tile and batch by memory and measured costs, and what is left for rows under way.

    Args:
        engine: the model on its device.
        settings: what the user asks for.
        images_under_way: images whose rows are in memory at the same time.
        workers: threads that call engines; each has a batch in hand, and an output that waits for its turn.
        work: pixels of all images to come, as far as is known: what pays for measuring, if nothing is remembered.
        fresh: measure again, whatever is remembered and however little there is to do.

    Raises:
        GeometryError: tile, overlap and halo do not fit together.
        OutOfMemoryError: there is no room for one tile, however small.
    """
    plan = plan_tiles(engine.spec, settings)
    room = Room.of(engine, settings, workers)
    if not room.on_cpu:
        plan = replace(plan, equalised=False)  # a GPU pays for each new shape
    if engine.device.startswith("tensorrt"):
        plan, work = replace(plan, sides=()), None  # each new shape is built for minutes
    costs = find_costs(engine, plan, settings, room, work=work, fresh=fresh)
    if costs or room.bounded:
        plan = _shrunk(plan, room, room.price(costs))
    options = candidates(plan, settings, room, costs)
    plan = best_of(options, plan.tile) if options else _by_rule(plan, settings, room, costs)
    fixed = engine.spec.fixed_batch
    if fixed and settings.batch not in ("auto", fixed):
        log.warning(
            "model %s takes batches of %d only; --batch-size %s is ignored", engine.spec.name, fixed, settings.batch
        )
    elif settings.batch not in ("auto", fixed, plan.batch):
        log.warning("--mem-limit leaves room for batches of %d, not %s", plan.batch, settings.batch)
    plan = replace(plan, batch=fixed or plan.batch)
    assumed = settings.batch != "auto" and not room.bounded  # the user's batch is the user's care
    price = room.price(costs) if room.on_cpu and not assumed else room.waiting
    taken = plan.batch * max(math.prod(plan.tile), max(plan.sides, default=0) ** 2) * price
    return replace(plan, strip_budget=(room.all - taken) / images_under_way)


def find_costs(
    engine: Engine, plan: Plan, settings: Settings, room: Room, *, work: int | None, fresh: bool
) -> Costs | None:
    """Costs remembered, or measured where that pays or nothing may be assumed of the memory; None without either."""
    largest = max(plan.sides, default=0)
    shapes = shapes_to_measure(engine, (largest, largest) if largest else plan.tile)
    if fresh or pays(plan, work, pixels_to_measure(shapes)):
        return measure(engine, shapes, room.call, fresh=fresh)
    known = remembered(engine, shapes)
    needed = math.prod(plan.tile)
    if work is not None and plan.fitted:
        needed = min(needed, work)
    if room.bounded or (known is None and settings.batch == "auto" and room.price(None) * needed > room.call):
        small = [shape for shape in shapes if math.prod(shape) <= math.prod(plan.tile)]
        found = measure(engine, small or shapes[:1], room.call)
        return known if known and found and known.largest > found.largest else found
    return known


def pays(plan: Plan, work: int | None, price: int) -> bool:
    """Whether measuring, which runs `price` pixels through the network, saves more than it costs.

    For sure where it saves that many pixels of being computed twice; for large work at any rate.
    """
    if work is None or not plan.fitted:
        return False
    sides = [replace(plan, tile=(side, side)) for side in plan.sides]
    least = min((option.grid(*PHOTOGRAPH).redundancy for option in sides), default=math.inf)
    saved = work * (plan.grid(*PHOTOGRAPH).redundancy - least)
    return saved > price or work > LARGE_WORK * price


def candidates(plan: Plan, settings: Settings, room: Room, costs: Costs | None) -> list[Plan]:
    """Every (side, batch) that fits into memory and lies near what was measured.

    `sides` of each are those with room for its batch, for images which they suit better.
    """
    if not costs or not plan.fitted:
        return []
    sides = [side for side in plan.sides if side**2 <= BEYOND * costs.largest]
    if plan.sides and not sides:
        return []
    most = {side: int(room.call / (room.price(costs) * side**2)) for side in sides}
    found = []
    for tile in [(side, side) for side in sides] or [plan.tile]:
        pixels = math.prod(tile)
        fits = int(room.call / (room.price(costs) * pixels))
        if settings.batch == "auto":
            useful = min(fits, max(1, costs.largest // pixels))
            batches = [2**power for power in range(useful.bit_length())]
        elif room.bounded:
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
    good = [option for option, time in zip(options, seconds, strict=True) if time <= AS_GOOD * min(seconds)]
    kept = [option for option in good if option.tile == recommended]
    return min(kept or good, key=lambda option: (option.batch * math.prod(option.tile), option.tile))


def _seconds(option: Plan) -> float:
    assert option.costs is not None  # of a candidate
    return option.costs.seconds_of(replace(option, sides=()).grid(*PHOTOGRAPH), option.batch)


def _by_rule(plan: Plan, settings: Settings, room: Room, costs: Costs | None) -> Plan:
    """The recommended tile, and a batch that fills the device by experience; a power of 2 where memory is short."""
    plan = replace(plan, sides=())
    if settings.batch != "auto" and not room.bounded:
        return replace(plan, batch=settings.batch)
    pixels = math.prod(plan.tile)
    fits = max(1, int(room.call / (room.price(costs) * pixels)))
    if settings.batch != "auto":
        return replace(plan, batch=min(fits, settings.batch))
    wanted = max(1, PIXELS_PER_CALL["cpu" if room.on_cpu else "gpu"] // pixels)
    return replace(plan, batch=wanted if wanted <= fits else 2 ** (fits.bit_length() - 1))


def _shrunk(plan: Plan, room: Room, price: float) -> Plan:
    """The plan with tiles so small that one of them fits, where its price is known."""
    while price * math.prod(plan.tile) > room.call:
        try:
            plan = plan.smaller()
        except OutOfMemoryError:
            if not room.bounded:
                return plan  # the device has the last word
            needed = 2 * price * math.prod(plan.tile) + memory.process_ram()
            raise OutOfMemoryError(
                f"--mem-limit leaves {memory.format_size(max(0, 2 * room.call))} to work in, and the smallest tiles, "
                f"{plan.tile[0]} x {plan.tile[1]}, need about {memory.format_size(needed / HEADROOM)} in all; raise it"
            ) from None
    return plan
