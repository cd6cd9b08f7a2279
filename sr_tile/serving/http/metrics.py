"""What a server counts, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from sr_tile.pipeline.image_job import Stats
from sr_tile.serving.dynamic_batching.batcher import Call
from sr_tile.serving.http.http_errors import http_error_of
from sr_tile.system import memory

_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WAITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server, in a registry of their own; safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.images = Counter("sr_tile_images", "Images by what became of them", ["outcome"], registry=registry)
        self.image_seconds = Histogram(
            "sr_tile_image_seconds", "Time of an image, without upload", buckets=_SECONDS, registry=registry
        )
        self.stage_seconds = Counter("sr_tile_stage_seconds", "Time at work, by stage", ["stage"], registry=registry)
        self.tiles = Counter("sr_tile_tiles", "Tiles of finished images", registry=registry)
        self.pixels = Counter("sr_tile_pixels", "Input pixels of finished images", registry=registry)
        self.batch_rows = Histogram(
            "sr_tile_batch_rows", "Rows of a call of the model", buckets=_ROWS, registry=registry
        )
        self.batch_wait = Histogram(
            "sr_tile_batch_wait_seconds", "Time that a tile waited for its call", buckets=_WAITS, registry=registry
        )
        self.in_flight = Gauge("sr_tile_images_in_flight", "Images under way, uploads included", registry=registry)
        self.queued = Gauge("sr_tile_queue_rows", "Rows that wait for the model", registry=registry)
        self.kept = Gauge("sr_tile_kept_results", "Results kept for the web page", registry=registry)
        ram = Gauge("sr_tile_memory_bytes", "Memory that the process holds", registry=registry)
        ram.set_function(memory.process_ram)

    def call(self, call: Call) -> None:
        """Count one call of a model."""
        self.batch_rows.observe(call.requests)
        for seconds in call.waited:
            self.batch_wait.observe(seconds)

    @contextmanager
    def image(self) -> Iterator["Watch"]:
        """Times one image, and counts what becomes of it."""
        start, outcome = time.perf_counter(), "done"
        try:
            yield Watch(self)
        except BaseException as error:
            outcome = http_error_of(error).code
            raise
        finally:
            self.images.labels(outcome).inc()
            self.image_seconds.observe(time.perf_counter() - start)

    def text(self) -> bytes:
        """All of it, as OpenMetrics."""
        return generate_latest(self.registry)


class Watch:
    """Counts the work of one image."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def count(self, stats: Stats, tiles: int, pixels: int) -> None:
        """Count a finished image."""
        for stage in stats.stages:
            self._metrics.stage_seconds.labels(stage.name).inc(stage.busy)
        self._metrics.tiles.inc(tiles)
        self._metrics.pixels.inc(pixels)
