"""What tests on the pretended GPU run."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

X2 = Path(__file__).parents[3] / "models" / "clean-x2.onnx"


SOME = np.zeros((4, 3, 256, 256), np.float32)


def let_calls_take_a_second(monkeypatch):
    """As the planner sees it, and little more for their pixels, so that plans fill the card: only bytes are real here."""
    from sr_tile.planner import measure_calls

    original, seconds = measure_calls._peak, [0.0]

    def peak(engine, call, batch_nchw):
        seconds[0] += 1 + 1e-9 * batch_nchw.size
        return original(engine, call, batch_nchw)

    monkeypatch.setattr(measure_calls, "_peak", peak)
    monkeypatch.setattr(measure_calls, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
