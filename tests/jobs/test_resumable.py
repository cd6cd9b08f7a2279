"""A job that is run again: what is done again, and what is not."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from support.jobs import SETTINGS, ShadingEngine, contents, enhancer, lines, run
from support.toys import noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import JobError
from sr_tile.jobs.journal import read_state
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import FilePair, select_files
from sr_tile.planner import Plan, Settings
from sr_tile.planner.costs import Costs, Point


def test_a_second_run_computes_nothing(photos):
    pairs = select_files(["in"], "out").pairs
    assert {result.status for result in run("job", pairs).values()} == {"done"}
    first, begun = contents("out"), len(lines("job", "begin"))
    assert {result.status for result in run("job", pairs).values()} == {"done"}
    assert contents("out") == first
    assert len(lines("job", "begin")) == begun == 4


def test_strips_that_a_kill_left_behind_a_finished_image_are_swept_up(photos):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    left = Path("job/strips/0123456789abcdef01234567")
    left.mkdir(parents=True)
    (left / "0-64").write_bytes(b"rows")
    Path("job/strips/mine").mkdir()
    run("job", pairs)
    assert [path.name for path in Path("job/strips").iterdir()] == ["mine"]


def test_only_what_changed_is_done_again(photos):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    first = contents("out")
    os.utime("in/0.png", (1, 1))  # another time, the same content
    Image.fromarray(noise_image(40, 30, seed=9)).save("in/1.png")
    (photos / "out" / "2.png").unlink()
    run("job", pairs)
    assert [Path(line["source"]).name for line in lines("job", "begin")][4:] == ["1.png", "2.png"]
    second = contents("out")
    assert {name for name in first if first[name] != second[name]} == {"1.png"}


def test_other_settings_are_refused_or_start_afresh_and_say_so(photos, caplog):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    others = {**SETTINGS, "tile": 24, "model": "other", "size": {"width": 40, "linear": False}}
    before = lines("job")
    with pytest.raises(JobError, match="another model, tile was 16 and is 24, width was not given and is 40; give"):
        run("job", pairs, enhancer(tile=24), others)
    assert lines("job") == before
    with ResumableJob("job", others, restart=True) as job:
        assert not any(job.known(pair) for pair in pairs), "they are of other settings"
        results = {result.source: result for result in job.run(enhancer(tile=24), pairs)}
    assert "starting afresh: another model, tile was 16" in caplog.text
    assert {result.status for result in results.values()} == {"done"}
    assert len(lines("job", "begin")) == 8
    assert read_state(Path("job")).started["settings"]["tile"] == 24


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"adjustment": {"strength": 0.0, "tta": False}}, "other options: strength was not given and is 0.0; give"),
        ({"size": {"linear": True}}, "other options: linear was not given and is True; give"),
        ({"pyramid": False}, "other options: those of another version; give"),
    ],
)
def test_what_changed_is_said_in_the_words_of_options(photos, more, words):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    with pytest.raises(JobError, match=words):
        run("job", pairs, settings={**SETTINGS, **more})


def test_tiles_are_those_of_the_first_run_whatever_the_memory(photos):
    pairs = select_files(["in"], "out").pairs
    run("whole", select_files(["in"], "expected").pairs)
    run("job", pairs[:2])
    run("job", pairs, enhancer(tile=24))  # as if memory had changed what `auto` gives
    assert contents("out") == contents("expected")


def test_plan_and_device_come_back_as_they_were(tmp_path):
    costs = Costs((Point(1, 64, 64, 0.1, 2.5e6), Point(2, 128, 64, 0.3, 7.1e6)))
    plan = Plan((64, 96), 16, 4, 8, batch=3, strip_budget=1e9 / 3, sides=(32, 64), costs=costs)
    with ResumableJob(tmp_path, SETTINGS) as job:
        assert job.plan is None
        assert job.device is None
        job.start(plan, "openvino", 1)
    with ResumableJob(tmp_path, SETTINGS) as job:
        assert job.plan == plan
        assert job.plan.grid(1000, 700) == plan.grid(1000, 700)
        assert job.device == "openvino"


def test_failures_stay_until_they_are_to_be_tried_again(photos):
    (photos / "in" / "bad.png").write_bytes(b"bad")
    pairs = [
        *select_files(["in"], "out").pairs,
        FilePair("gone.png", "out/gone.png", "gone.png: there is no such file"),
    ]
    first = run("job", pairs)
    assert {name for name, result in first.items() if result.status == "failed"} == {"bad.png", "gone.png"}
    assert run("job", pairs) == first
    assert len(lines("job", "failed")) == 2
    Image.fromarray(noise_image(9, 9)).save("in/bad.png")
    Image.fromarray(noise_image(9, 9)).save("gone.png")
    pairs = select_files(["in", "gone.png"], "out").pairs
    assert {result.status for result in run("job", pairs, retry_failed=True).values()} == {"done"}


def test_a_failure_is_tried_again_when_asked_for(photos):
    (photos / "in" / "bad.png").write_bytes(b"bad")
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    run("job", pairs)
    assert len(lines("job", "failed")) == 1
    run("job", pairs, retry_failed=True)
    assert len(lines("job", "failed")) == 2


def test_files_that_are_not_the_jobs_are_left_alone(photos):
    (photos / "out").mkdir()
    (photos / "out" / "0.png").write_bytes(b"mine")
    pairs = select_files(["in"], "out").pairs
    assert run("job", pairs)["0.png"].status == "failed"
    assert run("other", pairs, existing="skip")["0.png"].status == "skipped"
    assert (photos / "out" / "0.png").read_bytes() == b"mine"
    assert run("job", pairs, existing="overwrite", retry_failed=True)["0.png"].status == "done"


def test_two_processes_are_refused_and_status_sees_the_first(photos):
    from sr_tile.jobs.journal import is_locked

    with ResumableJob("job", SETTINGS):
        assert is_locked(Path("job"))
        with pytest.raises(JobError, match="another process"):
            ResumableJob("job", SETTINGS)
    assert not is_locked(Path("job"))
    ResumableJob("job", SETTINGS).close()


def test_two_jobs_into_one_folder_leave_each_others_files_alone(photos):
    """Names that share their beginning, or are the beginning of another, and a second job in the same folder."""
    names = [f"{'n' * 80}{index}.png" for index in range(4)] + ["X.png", "X.png.png", "図" * 80 + ".png"]
    (photos / "many").mkdir()
    for index, name in enumerate(names):
        Image.fromarray(noise_image(150, 30, seed=index)).save(photos / "many" / name)
    pairs = select_files(["many"], "out").pairs

    def do(folder):
        with Enhancer(
            ShadingEngine(), settings=Settings(tile=16, overlap=4, halo=1, batch=2), max_in_flight=4
        ) as worker:
            return run(folder, pairs, worker, existing="overwrite")

    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(do, ["job1", "job2"]):
            assert {name: result.error for name, result in results.items() if result.status != "done"} == {}
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(names)


def test_one_image_is_under_way_at_a_time(photos):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    assert [line["event"] for line in lines("job")] == ["start", *["begin", "done"] * 4]


def test_status_on_the_command_line(photos, capsys):
    from sr_tile.cli import job as command

    (photos / "in" / "bad.png").write_bytes(b"bad")
    run("job", select_files(["in"], "out").pairs)
    command.status(Path("job"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["total"], len(found["failed"]), found["running"]) == (4, 5, 1, False)
    command.status(Path("job"))
    text = capsys.readouterr().out
    assert "4 of 5 images" in text
    assert "bad.png: not an image" in text
    with pytest.raises(JobError, match="holds no job"):
        command.status(Path("nothing"))
