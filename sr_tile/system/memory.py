"""How much memory there is, on the machine and in the container; how much this process holds."""

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from sr_tile.errors import ArgumentError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_CGROUP = Path("/sys/fs/cgroup")
_UNTOUCHED, _UNTOUCHED_PER_CORE = 2**29, 2**25  # asked for and never written to: stacks of threads, ends of arenas


def parse_size(text: str) -> int:
    """Bytes of a size as people write it.

    >>> parse_size("2GiB"), parse_size("1.5 GB"), parse_size("300m")
    (2147483648, 1500000000, 300000000)

    Raises:
        ArgumentError: not a number with an optional unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB).
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if not match or match[2] not in _UNITS:
        raise ArgumentError(f"memory size {text!r} is not a number with a unit; write for example 2GiB or 1500MB")
    return int(float(match[1]) * _UNITS[match[2]])


def format_size(size: float) -> str:
    """Bytes for people.

    >>> format_size(1536 * 2**20)
    '1.50 GiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def free_ram() -> int:
    """Bytes of RAM that this process may still take: what the machine has, or what its cgroup leaves, if less."""
    return min(psutil.virtual_memory().available, _cgroup_room())


def process_ram() -> int:
    """Bytes of RAM that this process holds (resident set size)."""
    return int(psutil.Process().memory_info().rss)


def peak_ram() -> int:
    """The most bytes of RAM that this process has held."""
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024


def give_back() -> None:
    """Let the system have what this process freed, and glibc keeps, in 8 heaps a core; elsewhere nothing happens."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def refuse_beyond(size: int) -> None:
    """Let allocations of this process fail once it holds about so many bytes more: the system would end it without a word.

    A model may ask for any amount, in one operator or by a loop, and nothing tells before it is run. Where the system knows
    no such limit nothing is done, nor where there is an NVIDIA driver, which maps more than it takes. A limit that is lower
    stays.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    if not psutil.LINUX or Path("/proc/driver/nvidia").exists():
        return
    held = int(re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + size + _UNTOUCHED + _UNTOUCHED_PER_CORE * (psutil.cpu_count() or 1)
    bounds = [bound for bound in (before, most) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *bounds]), most))


def cgroup_folders(
    controller: str, root: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")
) -> Iterator[tuple[Path, bool]]:
    """Folders of the cgroups that bound this process, innermost first, each with True where they are of version 2.

    Version 2 keeps its files in the process's own folder, version 1 below the controller's name; inside a container the
    process's folder is mounted as the root, so every folder from its own up to the root is asked.

    Args:
        controller: `memory`, `cpu`.
        root: where the cgroups are mounted.
        own: the file that lists those of this process.
    """
    try:
        lines = own.read_text(errors="surrogateescape").splitlines()
    except OSError:  # no cgroups on this system
        return
    for _, controllers, path in (parts for line in lines if len(parts := line.split(":", 2)) == 3):
        unified = controllers == ""
        if not unified and controller not in controllers.split(","):
            continue
        top = root if unified else root / controller
        folder = top / path.strip("/")
        for parent in (folder, *(parent for parent in folder.parents if parent.is_relative_to(top))):
            yield parent, unified


def _cgroup_room(root: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that the tightest cgroup limit above this process leaves, page cache counted as free; 2^62 without one."""
    room = 2**62
    for folder, unified in cgroup_folders("memory", root, own):
        limit, usage, cache_key = (
            ("memory.max", "memory.current", "inactive_file")
            if unified
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        allowed = _number(folder / limit)
        if allowed is not None and allowed >= 0:
            cache = _number(folder / "memory.stat", cache_key) or 0
            room = min(room, max(0, allowed - (_number(folder / usage) or 0) + cache))
    return room


def _number(file: Path, key: str = "") -> int | None:
    """The number in a file, or behind a key in it; None where there is none, as with the word "max"."""
    try:
        return int(re.findall(rf"^{key}\s*(-?\d+)$", file.read_text(), re.M)[0])
    except (OSError, ValueError, IndexError):
        return None
