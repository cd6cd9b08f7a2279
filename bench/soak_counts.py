"""What became of the requests of `soak.py`, and the memory of whoever answers them."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import psutil

LOST_SECONDS = 180
"""After which a request counts as lost: bombs go before it, and others use the machine."""
PARTS = 6
"""Of a soak; clients rest at the end of each, for memory to be looked at while nothing is under way."""
REST_SECONDS = 8.0


def rest_of(passed: float, seconds: float) -> int | None:
    """Which of the rests a moment lies in; None in none.

    Args:
        passed: seconds since the begin.
        seconds: of the whole.
    """
    part = seconds / PARTS
    number = int(passed / part)
    return number if number < PARTS and (number + 1) * part - passed < min(REST_SECONDS, part / 3) else None


def growth(samples: Sequence[tuple[float, float]], seconds: float) -> tuple[float, list[float]]:
    """Memory that does not come back, and the least of each rest.

    What is under way comes and goes by hundreds of MiB and says nothing of that; the least of a rest is what stays. The
    first rest does not count: by then all buffers have been made once.

    Args:
        samples: (seconds since the begin, size).
        seconds: of the whole.
    """
    rests: dict[int, float] = {}
    for passed, size in samples:
        if (number := rest_of(passed, seconds)) is not None:
            rests[number] = min(size, rests.get(number, size))
    found = [rests[number] for number in sorted(rests)]
    half = len(found[1:]) // 2
    return (min(found[-half:]) - min(found[1 : 1 + half]) if half else 0.0), found


class Soak:
    """Counts what became of requests, and watches memory."""

    def __init__(self, minutes: float, process: psutil.Process, most_growth: float) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._process, self._most = process, most_growth
        self._begin = time.monotonic()
        self.end = self._begin + 60 * minutes
        self.health: list[float] = []  # seconds of each answer
        self._samples: list[tuple[float, float]] = []

    def over(self) -> bool:
        """True when time is up."""
        return time.monotonic() >= self.end

    def resting(self) -> bool:
        """True while nobody is to begin anything."""
        return rest_of(time.monotonic() - self._begin, self.end - self._begin) is not None

    def note(self, what: str) -> None:
        """One request has ended."""
        with self._lock:
            self.counts[what] += 1

    def watch(self) -> None:
        """Print until time is up."""
        while not self.over():
            time.sleep(min(1.0, max(0.0, self.end - time.monotonic())))
            size = self._process.memory_info().rss / 2**20
            passed = time.monotonic() - self._begin
            self._samples.append((passed, size))
            if len(self._samples) % 5:
                continue
            with self._lock:
                shown = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
            print(f"{passed:6.0f} s  {size:7.1f} MiB  {threading.active_count():3} threads  {shown}", flush=True)

    def verdict(self, limit: float, most_health: float) -> int:
        """0 where all went well.

        Args:
            limit: MiB that the process may hold; 0 for any.
            most_health: milliseconds for 99 of 100 answers of `/healthz`.
        """
        grown, rests = growth(self._samples, self.end - self._begin)
        bad = {what: self.counts[what] for what in ("lost", "wrong", "unexpected", "held") if self.counts[what]}
        print(f"{sum(self.counts.values())} requests, {bad or 'none lost, none wrong'}")
        print(f"growth {grown:+.1f} MiB; at rest {', '.join(f'{size:.0f}' for size in rests)} MiB")
        peak = max((size for _, size in self._samples), default=0.0)
        print(f"at most {peak:.0f} MiB" + (f", of {limit:.0f}" if limit else ""))
        late = False
        if len(self.health) > 100:
            p50, p99, worst = np.percentile([1000 * seconds for seconds in self.health], (50, 99, 100))
            print(f"/healthz: {len(self.health)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.0f} ms")
            late = p99 > most_health
        over = bool(limit) and peak > limit
        return 1 if bad or grown > self._most or over or late or not self.counts["answered"] else 0
