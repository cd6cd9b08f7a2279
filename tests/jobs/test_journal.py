"""Journals that are torn, damaged or forged."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from support.jobs import SETTINGS, contents, enhancer, lines, run

from sr_tile.errors import JobError
from sr_tile.jobs.journal import NAME, Journal
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import select_files
from sr_tile.planner import Plan
from sr_tile.planner.costs import Costs, Point


@pytest.mark.parametrize("name", ["{victim}", "../../victim", "..", "", "0123456789abcdef0123456G"])
def test_a_journal_cannot_name_a_folder_outside_of_the_job_to_be_removed(photos, name):
    victim = photos / "victim"
    victim.mkdir()
    pairs = select_files(["in"], "out").pairs[:1]
    run("job", pairs)
    Path("out/0.png").unlink()
    whole = (Path("job") / NAME).read_text().splitlines(keepends=True)
    target = json.loads(whole[1])["target"]
    strip = {"event": "strip", "target": target, "folder": name.format(victim=victim), "first": 0, "end": 9}
    (Path("job") / NAME).write_text("".join([*whole[:2], json.dumps(strip) + "\n"]))
    with pytest.raises(JobError, match="line 3 is damaged"):
        run("job", pairs)
    assert victim.is_dir()


def test_a_torn_last_line_is_cut_off(photos):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    expected = contents("out")
    path = Path("job") / NAME
    whole = path.read_bytes()
    last = whole.rstrip().rfind(b"\n") + 1
    for cut in (last + 1, last + 10, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert {result.status for result in run("job", pairs).values()} == {"done"}
        assert contents("out") == expected
        assert sum(line["event"] == "begin" for line in lines("job")) == 5


def test_a_damaged_line_is_refused_by_number(photos):
    run("job", select_files(["in"], "out").pairs)
    path = Path("job") / NAME
    path.write_bytes(path.read_bytes().replace(b'"event": "done"', b'"event" "done"', 1))
    with pytest.raises(JobError, match="line 3 is damaged"):
        Journal(Path("job"))


def test_a_torn_line_is_expected_anywhere(photos, caplog):
    """A full disk tears a line, and the next one follows it: on its own line, or right behind it."""
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    expected, path = contents("out"), Path("job") / NAME
    whole = path.read_bytes().splitlines(keepends=True)
    for torn in (1, 2, 3, 4, 5, 8):
        line = whole[torn].rstrip()
        for cut in {1, 5, 12, len(line) // 2, len(line) - 1}:
            for joint in (b"", b"\n"):
                path.write_bytes(b"".join([*whole[:torn], line[:cut], joint, *whole[torn + 1 :]]))
                Journal(Path("job")).close()
    path.write_bytes(b"".join([*whole[:2], whole[2][:20], *whole[3:]]))
    assert {result.status for result in run("job", pairs).values()} == {"done"}
    assert contents("out") == expected
    assert "line 3 is torn" in caplog.text


def test_what_follows_a_torn_start_is_not_taken_for_other_settings(photos):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    run("job", pairs, enhancer(tile=24), {**SETTINGS, "tile": 24}, restart=True)
    path = Path("job") / NAME
    start = [index for index, line in enumerate(lines("job")) if line["event"] == "start"][1]
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:start], whole[start][:40], b"\n", *whole[start + 1 :]]))
    with ResumableJob("job", SETTINGS) as job:
        assert job.is_new, "what was done between belongs to tiles of 24"


def test_a_short_write_is_taken_back(photos, monkeypatch):
    with ResumableJob("job", SETTINGS) as job:
        before, write = (Path("job") / NAME).read_bytes(), os.write
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
            with pytest.raises(JobError, match="No space left"):
                job.journal.append("failed", source="a", target="b", error="c", size=1, mtime_ns=1)
        assert (Path("job") / NAME).read_bytes() == before
        job.journal.append("failed", source="a", target="b", error="c", size=1, mtime_ns=1)
    assert [line["event"] for line in lines("job")] == ["failed"]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "start"}',
        '{"event": "start", "total": "3", "settings": {}, "device": "cpu", "plan": {}}',
        '{"event": "begin", "source": 1, "target": "b", "size": 1, "mtime_ns": 1, "sha256": ""}',
        '{"event": "done", "target": "b", "bytes": null}',
        "[]",
        "1e999",
        "[" * 100_000,
        "nothing",
    ],
)
def test_a_line_of_another_shape_is_refused_by_number(tmp_path, line):
    (tmp_path / NAME).write_text(line + "\n")
    with pytest.raises(JobError, match="line 1 is damaged"):
        Journal(tmp_path)


SOUND = asdict(Plan((64, 64), 16, 4, 8, sides=(32,), costs=Costs((Point(1, 64, 64, 0.1, 2.5e6),))))


@pytest.mark.parametrize(
    "plan",
    [
        {"tile": 3},
        *({**SOUND, "batch": value} for value in ("x", 0, -1, 1.5, 10**9, True, None)),
        *({**SOUND, "tile": value} for value in (["a", "b"], [64], "ab", [64, 64, 64], [10**9] * 2, [64, 0])),
        *({**SOUND, "overlap": value} for value in ("x", -1, 10**9)),
        *({**SOUND, "strip_budget": value} for value in ("x", -1, float("nan"), float("inf"), [])),
        *(
            {**SOUND, "costs": {"points": [value]}}
            for value in ([1, 64, 64, "x", 1], [0, 64, 64, 1, 1], [1, 64, 64, 0, 1], [1], "abcde")
        ),
        *({**SOUND, "costs": value} for value in ("x", [], {"points": 3})),
        {**SOUND, "halo": None},
        {**SOUND, "sides": ["x"]},
        {**SOUND, "padding": "x"},
        {**SOUND, "padding": []},
        {**SOUND, "fitted": "x"},
        {**SOUND, "more": 1},
    ],
)
def test_a_plan_of_another_shape_is_refused(tmp_path, plan):
    start = {"event": "start", "total": 1, "settings": SETTINGS, "device": "cpu", "plan": plan}
    (tmp_path / NAME).write_text(json.dumps(start) + "\n")
    with ResumableJob(tmp_path, SETTINGS) as job, pytest.raises(JobError, match="plan of tiles is damaged"):
        _ = job.plan
