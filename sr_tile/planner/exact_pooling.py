"""Pictures as a whole, for networks that pool over all of them: their engines, and the plan that gives them these."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sr_tile.engines.base import Engine
from sr_tile.engines.exact_pooling.engine import ExactPoolingEngine, NoPoolingError
from sr_tile.errors import ArgumentError
from sr_tile.planner.plan import Plan
from sr_tile.system import memory

log = logging.getLogger("sr_tile")


def exact_precision(precision: str) -> str:
    """In how many bits pictures are pooled exactly.

    Raises:
        ArgumentError: fewer than 32 are asked for.
    """
    if precision not in ("auto", "fp32"):
        raise ArgumentError(f"--exact-pooling runs in fp32; leave --precision {precision} out")
    return "fp32"


def pooling_exactly(engines: Sequence[Engine], plan: Plan, mem_limit: int | None) -> tuple[list[Engine], Plan | None]:
    """Engines that pool over whole pictures, and the plan that gives them these; as they were where none pools.

    Raises:
        ArgumentError: it cannot be done with this network, or on this device.
    """
    made: list[Engine] = []
    limit = None if mem_limit is None else max(0.0, (mem_limit - memory.process_ram()) / 2)
    for engine in engines:
        try:
            made.append(ExactPoolingEngine(engine, plan.batch * math.prod(plan.tile), limit))
        except NoPoolingError as error:
            log.warning("%s", error)
            return list(engines), None
    spec = made[0].spec
    facts: Any = {"multiple": spec.multiple or 1, "smallest": spec.smallest, "padding": spec.padding}
    return made, replace(plan, whole=True, batch=1, sides=(), costs=None, halo=0, **facts)
