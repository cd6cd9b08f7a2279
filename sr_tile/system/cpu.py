"""The processor's name, and how many threads a runtime may start: what affinity and containers leave of the machine's cores.

ONNX Runtime counts the cores of the machine, whatever share of them the process has. In a container with 2 of 64 cores
it would start 64 threads, which wait for each other at every operator.
"""

import contextlib
import math
import os
import platform
from pathlib import Path

from sr_tile.system.memory import cgroup_folders

_TOPOLOGY = Path("/sys/devices/system/cpu")


def allowed_threads() -> int | None:
    """Threads to compute with; None where the whole machine is ours, and a runtime may count by itself."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS, Windows
        return None
    bound = len(allowed) < (os.cpu_count() or 1)
    share = cpu_share()
    if not bound and share >= len(allowed):
        return None
    return max(1, math.ceil(min(physical_cores(allowed), share)))


def thread_count() -> int:
    """Threads that move pixels side by side: those to compute with, or all of a machine that is ours."""
    return allowed_threads() or os.cpu_count() or 1


def physical_cores(allowed: set[int], topology: Path = _TOPOLOGY) -> int:
    """Cores that the given logical ones belong to: two threads of one core share the units that compute."""
    cores = set()
    for number in allowed:
        try:
            cores.add((topology / f"cpu{number}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(str(number))
    return len(cores)


def cpu_share(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores' worth of time that the tightest cgroup above this process grants; infinite without a limit."""
    share = math.inf
    for folder, unified in cgroup_folders("cpu", root, own):
        try:
            if unified:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if int(quota) > 0 and int(period) > 0:  # version 1 writes -1 for none
                share = min(share, int(quota) / int(period))
        except (OSError, ValueError, OverflowError):  # not there, or the word "max", or more than any machine has
            continue
    return share


def processor_name() -> str:
    """The processor's name, as far as the system tells it."""
    return _told("model name") or platform.processor() or platform.machine()


def processor_kind() -> str:
    """Name and instructions: what a measurement holds for. Virtual machines of one name differ in what they hide."""
    return f"{processor_name()} {_told('flags') or _told('Features') or ''}".strip()


def _told(key: str, source: Path = Path("/proc/cpuinfo")) -> str | None:
    with contextlib.suppress(OSError):
        for line in source.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return None
