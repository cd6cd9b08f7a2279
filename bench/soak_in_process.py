"""Callers of the batcher and of the shared engine, in one process with them; see `soak.py`."""

import random
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
from soak_counts import LOST_SECONDS, Soak

from sr_tile.engines.base import BaseEngine
from sr_tile.errors import DeadlineError, Overloaded, SrTileError, StoppedError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan
from sr_tile.serving import DynamicBatcher, SharedEngine

CALL_SECONDS, ROWS = 0.05, 16


def predict_batch(batch: np.ndarray) -> np.ndarray:
    """The same time for any batch; some requests poison it, some end the worker."""
    time.sleep(CALL_SECONDS)
    if (batch == -1).any():
        raise ValueError("poison")
    if (batch == -2).any():
        raise SystemExit("what no worker should raise")
    return batch * 2


def settle(soak: Soak, value: float, future: object) -> None:
    """Note what became of one request."""
    try:
        answer = future.result(0)  # type: ignore[attr-defined]
        soak.note("answered" if (answer == 2 * value).all() and value >= 0 else "wrong")
    except CancelledError:
        soak.note("cancelled")
    except (DeadlineError, StoppedError) as error:
        soak.note(type(error).__name__)
    except (ValueError, SystemExit):
        soak.note("poisoned" if value < 0 else "wrong")


def soak_batcher(soak: Soak) -> None:
    """Clients that do not wait for each other send requests at twice the rate that can be served."""
    host = DynamicBatcher(predict_batch, max_batch_size=ROWS, max_queue=4 * ROWS).start()
    rate = 2 * ROWS / CALL_SECONDS
    clients = 8

    def client(seed: int) -> None:
        draw = random.Random(seed)
        waiting: list[tuple[float, float, object]] = []
        while not soak.over() or waiting:
            now = time.monotonic()
            for item in [item for item in waiting if item[2].done()]:  # type: ignore[attr-defined]
                waiting.remove(item)
                settle(soak, item[0], item[2])
            for item in [item for item in waiting if now - item[1] > LOST_SECONDS]:
                waiting.remove(item)
                soak.note("lost")
            if soak.over() or soak.resting():
                time.sleep(0.01)
                continue
            value = float(draw.choices([1, 2, 3, -1, -2], [300, 300, 300, 2, 1])[0])
            width = draw.choice([8, 8, 8, 9])
            try:
                future = host.submit(np.full((1, width), value), timeout=draw.choice([None, None, 0.05]))
                waiting.append((value, now, future))
                if draw.random() < 0.05:
                    future.cancel()
            except Overloaded:
                soak.note("refused")
            except StoppedError:
                soak.note("StoppedError")
            time.sleep(draw.expovariate(rate / clients))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    draw = random.Random(0)
    while not soak.over():
        time.sleep(min(7.0, max(0.0, soak.end - time.monotonic())))
        host.stop(drain=draw.random() < 0.5)
        host.start()
    for thread in threads:
        thread.join()
    host.stop()


class SlowIdentity(BaseEngine):
    """An engine that takes the same time for any batch, and fails where a tile is all white."""

    spec, device, identity = ModelSpec("stand-in", scale=1, multiple=1), "cpu", "stand-in"

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        """The identity."""
        time.sleep(CALL_SECONDS)
        if (batch_nchw == 1).all(axis=(1, 2, 3)).any():
            raise ValueError("poison")
        return batch_nchw.copy()

    def memory_free(self) -> int:
        """Plenty."""
        return 2**30

    def memory_used(self) -> int:
        """None."""
        return 0


def soak_images(soak: Soak) -> None:
    """Whole images on the shared engine: twice as many clients as it takes."""
    plan = Plan((64, 64), 8, 2, 1, batch=ROWS)
    shared = SharedEngine(SlowIdentity(), plan, max_clients=8).start()

    def client(seed: int) -> None:
        draw = random.Random(seed)
        while not soak.over():
            if soak.resting():
                time.sleep(0.01)
                continue
            size = draw.choice([(64, 64), (50, 70), (300, 400)])
            image = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
            poisoned = draw.random() < 0.02
            if poisoned:
                image[:] = 255
            try:
                with shared.client(timeout=draw.choice([None, None, 0.1])) as engine:
                    job = ImageJob("image", lambda image=image: ArraySource(image), ArraySink)
                    if draw.random() < 0.1:
                        threading.Timer(draw.random() * 0.2, engine.close).start()
                    (outcome,) = Pipeline(engine, plan, decoders=1, encoders=1).run([job])
                    if outcome.error:
                        raise outcome.error
                    same = np.array_equal(outcome.sink.pixels_hwc, image)  # type: ignore[union-attr]
                    soak.note("answered" if same and not poisoned else "wrong")
            except Overloaded:
                soak.note("refused")
                time.sleep(draw.random() * 0.2)
            except ValueError:
                soak.note("poisoned" if poisoned else "wrong")
            except SrTileError as error:
                soak.note(type(error).__name__)

    threads = [threading.Thread(target=client, args=(seed,), daemon=True) for seed in range(16)]
    for thread in threads:
        thread.start()
    draw = random.Random(0)
    while not soak.over():
        time.sleep(min(11.0, max(0.0, soak.end - time.monotonic())))
        shared.stop(drain=draw.random() < 0.5, timeout=5)
        shared.start()
    for thread in threads:
        thread.join(LOST_SECONDS)
        if thread.is_alive():
            soak.note("lost")
    shared.stop(timeout=5)
