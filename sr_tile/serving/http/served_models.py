"""The models of a server, and which of them a request means."""

import math
from dataclasses import dataclass, field

from sr_tile.engines.base import Engine
from sr_tile.errors import ArgumentError
from sr_tile.models import zoo
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.options import Options
from sr_tile.serving.shared_engine import SharedEngine

MOST_STEPS = 4
"""Models in turn."""


@dataclass
class Model:
    """A model that is served."""

    name: str
    shared: SharedEngine
    whole_images: WholeImages = field(default_factory=lambda: WholeImages(None))

    @property
    def engine(self) -> Engine:
        """The first of its engines, for what they have in common."""
        return self.shared.engines[0]

    @property
    def plan(self) -> Plan:
        """Tiles where a request says nothing; smaller ones once the device ran out of memory."""
        return self.shared.plan

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""
        return self.engine.spec.scale or 1


class ServedModels(dict[str, Model]):
    """Models by name; none while they are being loaded."""

    @property
    def default(self) -> str:
        """The model of a request that names none."""
        return zoo.DEFAULT[2] if zoo.DEFAULT[2] in self else next(iter(self))

    def find(self, options: Options, before: tuple[int, int] | None = None) -> list[Model]:
        """The models that a request means, in turn: those it names, or that reach its size with the least scale.

        Args:
            options: of the request.
            before: (height, width) of the picture, where it is known.

        Raises:
            HttpError: there are none.
        """
        if not self:
            raise HttpError(503, "loading", "the models are being loaded; try again", retry_after=2)
        try:
            size, named = options.target, options.model
            if named is None:
                factor = size.factor(*before) if before and size.scale is None else size.scale
                steps = [self[self.default]] if factor is None else self._reaching(factor)
            else:
                steps = [self._named(name.strip()) for name in named.split(",")]
                zoo.check_scale(named, math.prod(model.scale for model in steps), size.scale)
            options.adjustment.of(steps[-1].engine)
        except ArgumentError as error:
            raise HttpError(422, "bad_option", str(error)) from None
        if len(steps) > MOST_STEPS:
            raise HttpError(422, "bad_option", f"model: {len(steps)} in turn, and {MOST_STEPS} are the most here")
        if options.edges and len(steps) > 1:
            raise HttpError(422, "bad_option", "edges go with one model, not with a chain; leave one of them out")
        for model in steps:
            if options.precision == "fp32" and model.engine.bound is None and model.engine.precision != "fp32":
                what = f"{model.name} runs in {model.engine.precision} on this server"
                raise HttpError(422, "bad_option", f"precision: {what}; leave precision out")
        return steps

    def _named(self, name: str) -> Model:
        model = self.get(name) or self.get(zoo.OLD_NAMES.get(name, ""))
        if model is None:
            known = ", ".join(self)
            raise HttpError(422, "unknown_model", f"model {name!r} is not served here; choose from {known}")
        return model

    def _reaching(self, factor: float, preferred: dict[int, str] = zoo.DEFAULT) -> list[Model]:
        """The model of the least scale that is not below a factor, or the largest and one behind it."""
        scales = {model.scale for model in self.values()}
        most = max(scales)
        if most < factor <= most**2:
            return [*self._reaching(most, preferred), *self._reaching(factor / most, zoo.CLEAN)]
        reaching = [scale for scale in scales if scale >= factor and scale > 1] or [
            scale for scale in scales if scale >= factor
        ]
        if not reaching:
            known = ", ".join(self)
            raise HttpError(422, "unknown_model", f"no model served here enlarges by {factor:g}; there are {known}")
        fitting = [name for name, model in self.items() if model.scale == min(reaching)]
        name = preferred.get(min(reaching))
        return [self[name if name in fitting else fitting[0]]]
