import math
import os

import pytest

from sr_tile.system import cpu
from sr_tile.system.cpu import allowed_threads, cpu_share, physical_cores


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def own(tmp_path, text):
    path = tmp_path / "own"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("outer", "inner", "share"),
    [
        ("max 100000", "max 100000", math.inf),
        ("max 100000", "150000 100000", 1.5),
        ("200000 100000", "400000 100000", 2.0),  # a pod's limit above a container's
        ("9" * 400 + " 100000", "100000 0", math.inf),
        ("100000 -100000", "nonsense", math.inf),
        ("9" * 5000 + " 1", "", math.inf),
    ],
)
def test_the_tightest_limit_of_version_2_counts(tmp_path, outer, inner, share):
    group(tmp_path / "root", "", cpu__max=outer)
    group(tmp_path / "root", "pod/box", cpu__max=inner)
    assert cpu_share(tmp_path / "root", own(tmp_path, "0::/pod/box\n")) == share


@pytest.mark.parametrize(("quota", "share"), [("-1", math.inf), ("50000", 0.5), ("300000", 3.0)])
def test_version_1_and_its_way_to_say_none(tmp_path, quota, share):
    group(tmp_path / "root", "cpu/box", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    lines = own(tmp_path, "5:memory:/box\n4:cpu,cpuacct:/box\n")
    assert cpu_share(tmp_path / "root", lines) == share
    assert cpu_share(tmp_path / "root", tmp_path / "none") == math.inf


def test_two_threads_of_a_core_count_once(tmp_path):
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        group(tmp_path, f"cpu{number}/topology", thread_siblings_list=siblings)
    assert physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert physical_cores({0, 2}, tmp_path) == 1
    assert physical_cores({8, 9}, tmp_path) == 2  # unknown ones count one each


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize(
    ("allowed", "share", "expected"),
    [(64, math.inf, None), (64, 80.0, None), (64, 2.0, 2), (64, 1.5, 2), (64, 0.2, 1), (4, math.inf, 4), (4, 3.0, 3)],
)
def test_the_runtime_counts_by_itself_only_where_the_whole_machine_is_ours(monkeypatch, allowed, share, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)))
    monkeypatch.setattr(cpu, "cpu_share", lambda: share)
    monkeypatch.setattr(cpu, "physical_cores", len)
    assert allowed_threads() == expected


def test_processors_of_one_name_are_told_apart_by_what_they_can_do(tmp_path, monkeypatch):
    told = cpu._told
    for flags in ("fpu avx2 amx_tile", "fpu avx2"):
        own(
            tmp_path,
            f"processor\t: 0\nmodel name\t: Some: 3 GHz\nflags\t\t: {flags}\nprocessor\t: 1\nmodel name\t: Other\n",
        )
        monkeypatch.setattr(cpu, "_told", lambda key: told(key, tmp_path / "own"))
        assert cpu.processor_name() == "Some: 3 GHz"
        assert cpu.processor_kind() == f"Some: 3 GHz {flags}"
    monkeypatch.setattr(cpu, "_told", lambda key: told(key, tmp_path / "none"))
    assert cpu.processor_kind() == cpu.processor_name() != ""
