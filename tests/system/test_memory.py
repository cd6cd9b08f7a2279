import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.kept_memory import keep_free_memory

from sr_tile.errors import ArgumentError
from sr_tile.system import memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GiB", 2**31),
        ("1.5 GB", 1_500_000_000),
        ("300m", 300_000_000),
        ("4096", 4096),
        ("1KiB", 1024),
        ("2T", 2 * 10**12),
    ],
)
def test_sizes_as_people_write_them(text, expected):
    assert memory.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1GB", "1 2", "2 gibs", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ArgumentError, match="2GiB"):
        memory.parse_size(text)


def test_sizes_for_people():
    assert [memory.format_size(2**power) for power in (9, 10, 25, 30, 42)] == [
        "512 B",
        "1 KiB",
        "32 MiB",
        "1.00 GiB",
        "4096.00 GiB",
    ]


def make_group(folder, limit, used, cache, names=("memory.max", "memory.current", "inactive_file")):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\n")


def test_the_tightest_limit_of_all_groups_above_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    make_group(tmp_path / "a" / "b", "max", 10, 0)
    assert memory._cgroup_room(tmp_path, own) == 2**62
    make_group(tmp_path / "a", 1000, 400, 100)
    assert memory._cgroup_room(tmp_path, own) == 700
    make_group(tmp_path / "a" / "b", 500, 450, 10)
    assert memory._cgroup_room(tmp_path, own) == 60
    own.write_text("0::/\n")
    make_group(tmp_path, 300, 350, 0)
    assert memory._cgroup_room(tmp_path, own) == 0


def test_version_1_groups(tmp_path):
    own = tmp_path / "own"
    own.write_text("5:cpu:/x\n4:memory:/x\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    make_group(tmp_path / "memory" / "x", 1000, 400, 50, names)
    assert memory._cgroup_room(tmp_path, own) == 650
    assert memory._cgroup_room(tmp_path, tmp_path / "missing") == 2**62


@pytest.mark.parametrize(("limit", "used", "stat", "room"), [
    ("1000", "400", "inactive_file 100", 700),
    ("1000", "400", "", 600),
    ("1000", "nonsense", "inactive_file", 1000),
    ("-1", "400", "", 2**62),
    ("9" * 5000, "400", "", 2**62),
    ("", "", "", 2**62),
])  # fmt: skip
def test_of_odd_files_the_limit_holds_where_it_is_one(tmp_path, limit, used, stat, room):
    own = tmp_path / "own"
    own.write_bytes(b"nonsense\n\n0::/\xff\n")
    folder = tmp_path / os.fsdecode(b"\xff")
    make_group(folder, limit, used, 0)
    (folder / "memory.stat").write_text(stat)
    assert memory._cgroup_room(tmp_path, own) == room
    (folder / "memory.current").unlink()
    assert memory._cgroup_room(tmp_path, own) >= room


BOUNDED = """
import sys
from sr_tile.system import memory
memory.refuse_beyond(2**40)
memory.refuse_beyond(2**26)
memory.refuse_beyond(2**40)  # a lower limit stays
small = bytearray(2**25)
try:
    bytearray(2**36)
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(not psutil.LINUX or Path("/proc/driver/nvidia").exists(), reason="no such limit here")
def test_what_is_more_than_the_bound_is_refused_before_the_system_ends_the_process():
    done = subprocess.run([sys.executable, "-c", BOUNDED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


def test_what_the_system_says_is_plausible():
    assert 0 < memory.process_ram() <= 1.1 * memory.peak_ram()
    assert memory.free_ram() > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not asked")
def test_what_was_freed_is_given_back():
    last = keep_free_memory()
    held = memory.process_ram()
    memory.give_back()
    assert memory.process_ram() < held - 2**26
    assert last
