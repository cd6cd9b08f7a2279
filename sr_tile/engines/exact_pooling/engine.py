"""An engine for whole pictures: it cuts them itself, segment by segment of the graph, so that poolings see all of them."""

import copy
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sr_tile.engines.base import Engine, WholeResults
from sr_tile.engines.device_errors import is_out_of_memory
from sr_tile.engines.exact_pooling.cut import Segment, cut, find_poolings
from sr_tile.engines.exact_pooling.facts import FORMAT, Facts
from sr_tile.engines.exact_pooling.layout import differing, find_placements
from sr_tile.engines.exact_pooling.planes import Planes
from sr_tile.engines.onnx_runtime import too_large
from sr_tile.errors import ArgumentError, ModelError, ModelOutputError, OutOfMemoryError, StoppedError, one_line
from sr_tile.models.probing import STEPS
from sr_tile.models.receptive_field import natural_like
from sr_tile.models.spec import ModelSpec
from sr_tile.system import memory
from sr_tile.system.cache import cache_folder, measured_file, recall, remember
from sr_tile.tiling.grid import round_up

_CANVASES = (20, 40)  # multiples a side of the picture on which margins are measured
_LEAST_CANVAS = 192
_AGREES = 1e-4  # of the largest value: tiles and whole
_PIXELS = 512 * 512  # of a tile, where nothing else is said

Tensors = dict[str, np.ndarray]
Call = Callable[[Tensors], Tensors]
"""Runs a segment: inputs to outputs, by name."""

Window = tuple[int, int, int, int]
"""First and end pixel of a tile with its margins, and of what is its own."""


class NoPoolingError(ArgumentError):
    """There is nothing to pool exactly."""


@dataclass(frozen=True)
class _Measured:
    """A segment with what is known of it: its largest tensor, bytes a pixel, and pixels around a tile that it needs."""

    segment: Segment
    density: float
    before: int
    after: int


class ExactPoolingEngine(WholeResults):
    """See `Engine`; a picture comes as one tile. All but its calls are those of `engine`.

    Args:
        engine: the network.
        tile_pixels: of a tile of the segment with the largest tensors; others get larger ones.
        planes_limit: bytes of memory for tensors between segments, see `Planes`; None for half of what is free.

    Raises:
        NoPoolingError: the graph does not pool over the picture.
        ArgumentError: it cannot be cut.
    """

    takes_pixels = False

    def __init__(self, engine: Engine, tile_pixels: int = _PIXELS, planes_limit: float | None = None) -> None:
        self._engine, self._tile_pixels, self._planes_limit = engine, tile_pixels, planes_limit
        self._cancelled = threading.Event()
        graph = engine.subgraphs()
        if graph is None or engine.spec.fixed_tile:
            raise ArgumentError(
                f"--exact-pooling cuts graphs that take any size, on devices that run parts of them; model "
                f"{engine.spec.name} on {engine.device} is none: try --device cpu"
            )
        self._model, self._input, self._output, self._open = graph.model, graph.input, graph.output, graph.open
        self.identity = f"{engine.identity} exact pooling"
        file = measured_file(cache_folder("pooling"), FORMAT, engine.identity)
        names = {name for node in self._model.graph.node for name in node.output if name} | {self._input}
        known = recall(file, lambda text: Facts.read(text, names))
        self._facts = known or self._measure_places()
        self._multiple, self._places = self._facts.multiple, self._facts.places
        segments = self._segments()
        sizes = {name: 4.0 * math.prod(shape) / self._facts.side**2 for name, shape in self._facts.shapes.items()}
        densities = [max((sizes[name] for name in part.nodes), default=4.0 / self._facts.side**2) for part in segments]
        if known is None or len(known.margins) != len(segments):
            unknown = [_Measured(part, density, 0, 0) for part, density in zip(segments, densities, strict=True)]
            margins = self._measure_margins(unknown)
            self._facts = replace(self._facts, takes_all_sizes=self._takes(self._facts.side + 1), margins=margins)
            remember(file, self._facts.to_json())
        self._parts = [
            _Measured(part, density, before, after)
            for part, density, (before, after) in zip(segments, densities, self._facts.margins, strict=True)
        ]

    def _segments(self) -> list[Segment]:
        shapes, name = self._facts.shapes, self._engine.spec.name
        poolings = find_poolings(self._model, {name: place.axes for name, place in self._places.items()})
        if not poolings:
            raise NoPoolingError(f"model {name}: pools nowhere over the whole picture, and is run as ever")
        segments = cut(self._model, poolings, {name: len(shape) for name, shape in shapes.items()}, self._places.keys())
        kept = {tensor for part in segments for tensor in part.kept}
        if unplaced := sorted(tensor for tensor in kept - self._places.keys() if len(shapes[tensor]) == 3):
            raise ArgumentError(
                f"model {name}: {unplaced[0]} is needed behind a pooling, and does not lie as a plane; "
                "exact pooling cannot cut it"
            )
        return segments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def spec(self) -> ModelSpec:
        """Of the network, which is given pictures as they are where it takes them."""
        spec = self._engine.spec
        return (
            replace(spec, multiple=1, padding="own", halo=0) if self._facts.takes_all_sizes else replace(spec, halo=0)
        )

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        """See `Engine.run`."""
        pixels = float(self._tile_pixels)
        while True:
            try:
                return np.concatenate(
                    [self._run(batch_nchw[i : i + 1], self._parts, pixels) for i in range(len(batch_nchw))]
                )
            except OutOfMemoryError:  # tiles equal the whole whatever their size, so they may be smaller
                if pixels < 4 * self._multiple**2 or pixels < 2**12:
                    raise
                pixels /= 4

    def run_exact(self, batch_nchw: np.ndarray) -> None:
        """See `Engine.run_exact`: it is."""

    def prepare(self, batch: int, tile: tuple[int, int]) -> None:
        """See `Engine.prepare`: nothing has to be."""

    def cancel(self) -> None:
        """See `Engine.cancel`."""
        self._cancelled.set()
        self._cancelled = threading.Event()
        self._engine.cancel()

    def _run(
        self,
        picture_nchw: np.ndarray,
        parts: list[_Measured],
        tile_pixels: float,
        on_part: Callable[[_Measured, Planes, Call], None] | None = None,
    ) -> np.ndarray:
        limit = memory.free_ram() / 2 if self._planes_limit is None else self._planes_limit
        planes, cancelled = Planes(limit), self._cancelled
        planes.keep(self._input, np.ascontiguousarray(picture_nchw, np.float32))
        most = max(part.density for part in parts)
        for index, part in enumerate(parts):
            call = self._caller(part.segment)
            pixels = tile_pixels * most / part.density
            self._pass(part, planes, call, _windows(picture_nchw.shape[2:], part, self._multiple, pixels), cancelled)
            if on_part:
                on_part(part, planes, call)
            later = {name for other in parts[index + 1 :] for name in other.segment.inputs} | {self._output}
            for name in planes.names() - later:
                planes.forget(name)
        return np.asarray(planes[self._output])

    def _pass(
        self,
        part: _Measured,
        planes: Planes,
        call: Call,
        windows: tuple[list[Window], list[Window]],
        cancelled: threading.Event,
    ) -> None:
        """One segment over all tiles."""
        segment = part.segment
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        # The last tile first: where it ends, all tensors do.
        for y, x in itertools.product(reversed(windows[0]), reversed(windows[1])):
            if cancelled.is_set():
                raise StoppedError(f"model {self._engine.spec.name}: a call was cancelled")
            is_last = (y == windows[0][-1], x == windows[1][-1])
            feeds = {name: self._piece(name, planes[name], y, x, is_last) for name in segment.inputs}
            made = call(feeds)
            for pooling in segment.poolings:
                source = made[pooling.source] if pooling.source in made else feeds[pooling.source]
                own = source[self._own(pooling.source, source, y, x, is_last)[0]]
                total = own.sum(axis=pooling.axes, keepdims=pooling.keeps_axes, dtype=np.float64)
                sums[pooling.target] = sums.get(pooling.target, 0.0) + total
                counts[pooling.target] = (
                    counts.get(pooling.target, 0) + own.shape[pooling.axes[0]] * own.shape[pooling.axes[1]]
                )
            for name in segment.kept:
                value = made[name]
                if name not in self._places:
                    planes.keep(name, value)
                    continue
                inside, outside, size = self._own(name, value, y, x, is_last)
                plane = planes[name] if name in planes else planes.new(name, size)
                plane[outside] = value[inside]
        for name, total in sums.items():
            planes.keep(name, (total / counts[name]).astype(np.float32))

    def _piece(self, name: str, plane: np.ndarray, y: Window, x: Window, is_last: tuple[bool, bool]) -> np.ndarray:
        """What a tile reads of a tensor."""
        place = self._places.get(name)
        if place is None:
            return plane
        spans = []
        sizes = [plane.shape[axis] for axis in place.axes]
        for (first, end, _, _), size in zip((y, x), sizes, strict=True):
            whole_end = place.at(end) + self._facts.border(name) if end % self._multiple == 0 else size
            spans.append(slice(place.at(first), min(size, whole_end)))
        if is_last[0]:
            spans[0] = slice(spans[0].start, None)
        if is_last[1]:
            spans[1] = slice(spans[1].start, None)
        return np.ascontiguousarray(plane[place.window(*spans)])

    def _own(
        self, name: str, value: np.ndarray, y: Window, x: Window, is_last: tuple[bool, bool]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...], tuple[int, ...]]:
        """Where a tile's own part lies in its tensor and in the whole one, and the whole one's shape, of the last tile."""
        place = self._places[name]
        inside, outside, size = [], [], list(value.shape)
        for axis, (first, _, own_first, own_end), last in zip(place.axes, (y, x), is_last, strict=True):
            start = place.at(first)
            stop = start + value.shape[axis] if last else place.at(own_end)
            outside.append(slice(place.at(own_first), stop))
            inside.append(slice(place.at(own_first) - start, stop - start))
            size[axis] = stop
        return place.window(*inside), place.window(*outside), tuple(size)

    def _caller(self, segment: Segment) -> Call:
        """What runs a segment; its session ends with it, so that memory is that of one segment."""
        name = self._engine.spec.name
        if not segment.model:
            return lambda feeds: {}
        session = self._open(segment.model)
        read = {item.name for item in session.get_inputs()}

        def call(feeds: Tensors) -> Tensors:
            try:
                found = session.run(list(segment.outputs), {key: value for key, value in feeds.items() if key in read})
            except Exception as error:  # ONNX Runtime's exceptions share no base of their own
                if is_out_of_memory(error):
                    shape = max((value.shape for value in feeds.values()), key=np.prod)
                    raise OutOfMemoryError(too_large(self._engine.device, shape)) from error
                raise ModelOutputError(f"model {name}: failed on a part of it: {one_line(error)}") from error
            return dict(zip(segment.outputs, found, strict=True))

        return call

    def _measure_places(self) -> Facts:
        import onnx

        model = copy.deepcopy(self._model)
        names = [name for node in model.graph.node for name in node.output if name]
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = self._open(model.SerializeToString())
        channels, known = self._engine.spec.channels, {}

        def shapes_of(height: int, width: int) -> dict[str, tuple[int, ...]]:
            if (height, width) not in known:
                picture = natural_like(1, channels, height, width)
                try:
                    found = session.run(names, {self._input: picture})
                except Exception as error:  # ONNX Runtime's exceptions share no base of their own
                    raise ModelOutputError(one_line(error)) from error
                known[height, width] = {name: np.shape(item) for name, item in zip(names, found, strict=True)}
                known[height, width][self._input] = picture.shape
            return known[height, width]

        multiple, places = find_placements(shapes_of, STEPS, self._engine.spec.smallest)
        side = round_up(max(64, self._engine.spec.smallest), multiple)
        return Facts(multiple, places, shapes_of(side, side), side)

    def _takes(self, side: int) -> bool:
        try:
            return self._engine.run(np.zeros((1, self._engine.spec.channels, side, side), np.float32)).shape[2] > 0
        except ModelError:
            return False

    def _measure_margins(self, segments: list[_Measured]) -> tuple[tuple[int, int], ...]:
        """Pixels before and behind a tile that each segment needs; the whole cut is held against the network as it was.

        Raises:
            ArgumentError: a segment needs too many, or tiles differ from the whole.
        """
        for cells in _CANVASES:
            side = round_up(max(_LEAST_CANVAS * cells // _CANVASES[0], cells * self._multiple), self._multiple)
            picture = natural_like(1, self._engine.spec.channels, side, side)
            found: list[_Measured | None] = []
            self._run(picture, segments, float("inf"), lambda *given: found.append(self._margins(side, *given)))  # noqa: B023
            if all(found):
                parts = [part for part in found if part]
                whole, tiled = self._engine.run(picture), self._run(picture, parts, (side / 2) ** 2)
                if float(np.abs(whole - tiled).max()) <= _AGREES * max(1.0, float(np.abs(whole).max())):
                    return tuple((part.before, part.after) for part in parts)
        raise ArgumentError(
            f"model {self._engine.spec.name}: looks at all of the picture by more than poolings that could be taken apart; "
            "leave exact pooling out"
        )

    def _margins(self, side: int, part: _Measured, planes: Planes, call: Call) -> _Measured | None:
        multiple = self._multiple
        first, end = (round_up(side // 8, multiple), side - round_up(side // 8, multiple))
        window = (first, end, first, end)
        if not part.segment.model:
            return part
        made = call(
            {name: self._piece(name, planes[name], window, window, (False, False)) for name in part.segment.inputs}
        )
        whole = call({name: planes[name] for name in part.segment.inputs})
        before = after = 0
        for name, value in made.items():
            if (place := self._places.get(name)) is None:
                continue
            if (margins := differing(whole[name], value, place, first)) is None:
                return None
            before = max(before, -(-margins[0] * multiple // place.step))
            after = max(after, -(-(margins[1] - self._facts.border(name)) * multiple // place.step))
        return replace(part, before=round_up(before, multiple), after=round_up(max(0, after), multiple))


def _windows(size: tuple[int, ...], part: _Measured, multiple: int, pixels: float) -> tuple[list[Window], list[Window]]:
    """Tiles of at most so many pixels, rows and columns, that compute least twice."""
    best: tuple[int, int, int] | None = None
    cells = [-(-length // multiple) for length in size]
    around = part.before + part.after
    for columns in range(1, cells[1] + 1):
        width = -(-cells[1] // columns) * multiple + (around if columns > 1 else 0)
        room = pixels / width - around
        rows = 1 if pixels / width >= size[0] else -(-cells[0] // max(1, int(room // multiple)))
        height = -(-cells[0] // rows) * multiple + (around if rows > 1 else 0)
        fits = width * height <= pixels or (rows, columns) == (cells[0], cells[1])
        if fits and (best is None or rows * height * columns * width < best[0]):
            best = (rows * height * columns * width, rows, columns)
    _, rows, columns = best or (0, *cells)
    return _axis(size[0], rows, part, multiple), _axis(size[1], columns, part, multiple)


def _axis(length: int, count: int, part: _Measured, multiple: int) -> list[Window]:
    cells = -(-length // multiple)
    edges = [min(length, index * cells // count * multiple) for index in range(count + 1)]
    return [
        (max(0, first - part.before), min(length, end + part.after), first, end)
        for first, end in itertools.pairwise(edges)
    ]
