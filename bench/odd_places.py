"""States of the file system for `fuzz.py`: what may stand where an input, a result, a model, a job or a cache is to be."""

import contextlib
import os
import random
import resource
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

_OBEYING = (
    "setpriv",
    "--bounding-set",
    "-dac_override,-dac_read_search",
    "--inh-caps",
    "-dac_override,-dac_read_search",
)
GOOD = ("good0.png", "good1.jpg", "good2.webp", "深" * 80 + ".png", "n" * 251 + ".png")
"""Sound pictures with names that the system takes."""
ODD = ("loop", "loop/a.png", "ring/ring/ring", "dangling.png", "fifo.png", "folder.png", "socket.png", "shut", "shut/a.png",
       "blind/a.png", "still/a.png", "still/new.png", "kept.png", "linked.png", "full/a.png", "full/", "file/a.png", "-",
       "", "b" * 300 + ".png", "漢" * 86 + ".png", "a\x1b]0;x\x07.png", "a\nb.png", "a\udc80.png", "[.png", "[ab].png",
       "x/" * 2000 + "y.png", "good0.png/", "%s%n.png", "file://a.png", "device.png", "empty", "a.png:b", "~",
       "/proc/self/mem", "/proc/1/environ", "/proc/nowhere/a.png", "tree")  # fmt: skip
"""None of them leads out of the folder to where something can be written."""


@contextlib.contextmanager
def odd_place(place: Path, pictures: dict[str, bytes]) -> Iterator[None]:
    """A folder with all of `GOOD` and `ODD` that can be made here, and with a disk of 64 kB that is nearly full."""
    for name in GOOD:
        (place / name).write_bytes(pictures[Path(name).suffix[1:]])
    for name in ("folder.png", "empty", "shut", "blind", "still", "full", "tree", "[ab].png"):
        (place / name).mkdir()
    for name in ("shut/a.png", "blind/a.png", "still/a.png", "kept.png", "a\x1b]0;x\x07.png", "a\nb.png", "tree/a.png"):
        (place / name).write_bytes(pictures["png"])
    (place / "loop").symlink_to("loop")
    (place / "ring").symlink_to(".")
    (place / "tree" / "again").symlink_to("..")
    (place / "dangling.png").symlink_to("nowhere.png")
    (place / "linked.png").symlink_to("good0.png")
    (place / "file").write_text("x")
    os.mkfifo(place / "fifo.png")
    with contextlib.suppress(PermissionError):
        os.mknod(place / "device.png", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with contextlib.suppress(OSError), contextlib.chdir(place), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
    mounted = _mounted(place / "full", pictures["png"])
    modes = {"shut": 0, "blind": 0o600, "still": 0o555, "kept.png": 0o444}
    for name, mode in modes.items():
        (place / name).chmod(mode)
    try:
        yield
    finally:
        for name in modes:
            (place / name).chmod(0o700)
        if mounted:
            subprocess.run(["umount", "-l", place / "full"], check=False)


def _mounted(folder: Path, picture: bytes) -> bool:
    """Whether there is a small disk; where none may be mounted, it is a folder like others."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        return False
    (folder / "a.png").write_bytes(picture)
    with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
        file.write(bytes(48_000))
    return True


def obeying() -> list[str]:
    """Before a command: modes of files hold for it even where it is root's."""
    return list(_OBEYING) if os.geteuid() == 0 and shutil.which("setpriv") else []


def environment(dice: random.Random) -> dict[str, str]:
    """Where caches and temporary files are to be: mostly where they can."""
    if dice.random() < 0.7:
        return {}
    bad = dice.choice(["shut", "still", "file", "full", "loop", "nowhere", "", "漢" * 90])
    return {dice.choice(["HOME", "XDG_CACHE_HOME", "TMPDIR"]): bad}


def limits(dice: random.Random) -> Callable[[], None] | None:
    """What a process may have: mostly all."""
    kind, most = dice.choice([(None, 0)] * 6 + [(resource.RLIMIT_NOFILE, 24), (resource.RLIMIT_NOFILE, 48),
                                               (resource.RLIMIT_FSIZE, 1000), (resource.RLIMIT_FSIZE, 5000)])  # fmt: skip
    return None if kind is None else lambda: resource.setrlimit(kind, (most, most))
