import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.toys import ToyEngine, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageReadError, JobError
from sr_tile.images import ImageInfo, TargetSize
from sr_tile.jobs import durable_file
from sr_tile.jobs.journal import NAME, Journal, read_state
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import FilePair, select_files
from sr_tile.jobs.strip_store import StripFile, StripStore
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Plan, Settings
from sr_tile.planner.costs import Costs, Point

SETTINGS = {"model": "toy", "tile": 16}


class StoppedError(BaseException):
    """What a kill is, inside one process."""


class ShadingEngine(ToyEngine):
    """Its answer depends on the tile, so that other tiles give other bytes; it may stop at a call, once some is kept."""

    def __init__(self, stop_at=None, strips=None, kept=0):
        super().__init__(ModelSpec("shading", scale=2, multiple=1))
        self.stop_at, self.strips, self.kept = stop_at, strips, kept

    def answer(self, batch_nchw):
        if self.stop_at is not None and len(self.shapes) > self.stop_at:
            while self.kept and len(list(Path(self.strips).rglob("*-*"))) < self.kept:
                time.sleep(0.01)  # what was computed before is on its way
            raise StoppedError
        return super().answer(batch_nchw * np.linspace(1, 0.5, batch_nchw.shape[2], dtype=np.float32)[:, None])


def enhancer(engine=None, tile=16, **keywords):
    settings = Settings(tile=tile, overlap=4, halo=1, batch=2)
    return Enhancer(engine or ShadingEngine(), settings=settings, max_in_flight=1, **keywords)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for index in range(4):
        Image.fromarray(noise_image(40 + index, 30, seed=index)).save(tmp_path / "in" / f"{index}.png")
    return tmp_path


def run(folder, pairs, worker=None, settings=SETTINGS, **keywords):
    with ResumableJob(folder, settings) as job:
        return {Path(result.source).name: result for result in job.run(worker or enhancer(), pairs, **keywords)}


def lines(folder, event=None):
    found = [json.loads(line) for line in (Path(folder) / NAME).read_text().splitlines()]
    return [line for line in found if event in (None, line["event"])]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


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


def test_other_settings_start_afresh_and_say_so(photos, caplog):
    pairs = select_files(["in"], "out").pairs
    run("job", pairs)
    results = run("job", pairs, enhancer(tile=24), {**SETTINGS, "tile": 24})
    assert "other tile than before: starting afresh" in caplog.text
    assert {result.status for result in results.values()} == {"done"}
    assert len(lines("job", "begin")) == 8
    assert read_state(Path("job")).started["settings"]["tile"] == 24


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
    run("job", pairs, settings={**SETTINGS, "tile": 24}, worker=enhancer(tile=24))
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


def test_two_processes_are_refused_and_status_sees_the_first(photos):
    from sr_tile.jobs.journal import is_locked

    with ResumableJob("job", SETTINGS):
        assert is_locked(Path("job"))
        with pytest.raises(JobError, match="another process"):
            ResumableJob("job", SETTINGS)
    assert not is_locked(Path("job"))
    ResumableJob("job", SETTINGS).close()


@pytest.fixture
def small_giants(monkeypatch):
    monkeypatch.setattr(durable_file, "GIANT_PIXELS", 10_000)
    monkeypatch.setattr(durable_file, "STRIP_PIXELS", 4_000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_giant_stopped_anywhere_goes_on_behind_its_last_strip(tmp_path, monkeypatch, small_giants, dtype):
    monkeypatch.chdir(tmp_path)
    from sr_tile.images import ImageInfo, ImageWriter

    image = noise_image(150, 33, 4, dtype)
    with ImageWriter("giant.png", ImageInfo(150, 33, 4, np.dtype(dtype))) as writer:
        writer.write_rows(image)
    enhancer().enhance_file("giant.png", "expected.png")
    for stop_at, least in ((0, 0), (3, 0), (6, 0), (9, 1), (12, 2), (15, 2)):
        pairs = [FilePair("giant.png", f"out{stop_at}.png")]
        folder = f"job{stop_at}"
        # What follows the last journalled strip is lost, as when the process is killed.
        with pytest.raises(StoppedError):
            run(folder, pairs, enhancer(ShadingEngine(stop_at, f"{folder}/strips", least)))
        kept = lines(folder, "strip")
        assert len(kept) >= least - 1, "a strip is there before the journal says so"
        assert run(folder, pairs)["giant.png"].status == "done"
        assert Path(f"out{stop_at}.png").read_bytes() == Path("expected.png").read_bytes()
        rows = [(line["first"], line["end"]) for line in lines(folder, "strip")]
        assert rows[: len(kept)] == [(line["first"], line["end"]) for line in kept]
        assert [row for first, end in rows for row in range(first, end)] == list(range(rows[-1][1])), (
            "a strip came twice, or was left out"
        )
        assert not list((Path(folder) / "strips").iterdir())


def pages(path, width=21):
    tifffile.imwrite(path, noise_image(40, 33, seed=0), photometric="rgb")
    for page in (noise_image(60, width, seed=1), noise_image(50, 33, 4, np.uint16), noise_image(30, 30, seed=3)):
        tifffile.imwrite(path, page, photometric="rgb", append=True, extrasamples=[2] * (page.shape[2] == 4))


def animation(path):
    frames = [Image.fromarray(noise_image(40, 33, 4, seed=index)) for index in (0, 1, 1, 2, 3)]
    options = {} if path.endswith("gif") else {"lossless": True} if path.endswith("webp") else {"quality": 90}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 80, 120, 40, 40], **options)


@pytest.mark.parametrize("stop_at", [0, 3, 9, 14, 18])
@pytest.mark.parametrize(
    ("name", "make"), [("a.tif", pages), ("a.gif", animation), ("a.png", animation), ("a.webp", animation)]
)
def test_pages_and_frames_stopped_anywhere_are_computed_once(tmp_path, monkeypatch, name, make, stop_at):
    monkeypatch.chdir(tmp_path)
    make(name)
    enhancer().enhance_file(name, f"expected-{name}")
    pairs = [FilePair(name, f"out-{name}")]
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(stop_at, "job/strips", stop_at // 7)))
    kept = lines("job", "strip")
    assert len(kept) >= stop_at // 7 - 1, "a picture is there before the journal says so"
    worker = ShadingEngine()
    assert run("job", pairs, enhancer(worker))[name].status == "done"
    assert Path(f"out-{name}").read_bytes() == Path(f"expected-{name}").read_bytes()
    assert len(lines("job", "strip")) == 4, "a picture was computed twice"
    assert len(worker.shapes) < 20 or not kept
    assert not list(Path("job/strips").iterdir())


def test_pages_of_another_size_go_on_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages("a.tif", 60)
    size, pairs = TargetSize(width=50), [FilePair("a.tif", "out.tif")]  # the second page is only reduced
    enhancer(size=size).enhance_file("a.tif", "expected.tif")
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(15, "job/strips", 1), size=size))
    kept = len(lines("job", "strip"))
    assert run("job", pairs, enhancer(size=size))["a.tif"].status == "done"
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()
    assert 0 < kept < 3 == len(lines("job", "strip"))


def test_a_picture_of_which_a_strip_was_damaged_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages("a.tif")
    enhancer().enhance_file("a.tif", "expected.tif")
    with pytest.raises(StoppedError):
        run("job", [FilePair("a.tif", "out.tif")], enhancer(ShadingEngine(20, "job/strips", 2)))
    kept = sorted(Path("job/strips").rglob("*-*"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    assert run("job", [FilePair("a.tif", "out.tif")])["a.tif"].status == "done"
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()


def test_a_page_that_is_broken_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages("a.tif")
    with tifffile.TiffFile("a.tif") as file:
        offset = file.pages[1].tags["Compression"].valueoffset
    content = bytearray(Path("a.tif").read_bytes())
    content[offset : offset + 2] = b"\x39\x30"  # no compression that there is
    Path("a.tif").write_bytes(content)
    pairs = [FilePair("a.tif", "out.tif")]
    assert run("job", pairs)["a.tif"].status == "failed"
    again = ShadingEngine()
    assert "page 2" in run("job", pairs, enhancer(again), retry_failed=True)["a.tif"].error
    assert not again.shapes


def test_a_lost_block_is_computed_again(photos, small_giants):
    Image.fromarray(noise_image(150, 33)).save("giant.png")
    enhancer().enhance_file("giant.png", "expected.png")
    pairs = [FilePair("giant.png", "out.png")]
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(12, "job/strips", 2)))
    strips = sorted(Path("job/strips").rglob("*-*"), key=lambda path: int(path.name.split("-")[0]))
    assert len(strips) > 1
    strips[1].unlink()
    assert run("job", pairs)["giant.png"].status == "done"
    assert Path("out.png").read_bytes() == Path("expected.png").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "longer", "changed", "empty", "checksum"])
def test_a_damaged_block_is_computed_again(photos, small_giants, damage):
    Image.fromarray(noise_image(150, 33)).save("giant.png")
    enhancer().enhance_file("giant.png", "expected.png")
    pairs = [FilePair("giant.png", "out.png")]
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(12, "job/strips", 2)))
    strip = min(Path("job/strips").rglob("*-*"), key=lambda path: int(path.name.split("-")[0]))
    content = bytearray(strip.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    elif damage == "checksum":
        content[-1] ^= 1
    strip.write_bytes({"cut": content[:-7], "longer": content + b"x", "empty": b""}.get(damage, content))
    assert run("job", pairs)["giant.png"].status == "done"
    assert Path("out.png").read_bytes() == Path("expected.png").read_bytes()


def test_a_block_that_is_damaged_while_it_is_read_is_no_result(tmp_path):
    store = StripStore(tmp_path / "strips", ImageInfo(8, 5, 3, np.dtype(np.uint8)), np.dtype(np.uint8))
    strip = StripFile(store, 2)
    pixels = noise_image(6, 5)
    strip.write(pixels[:4])
    strip.write(pixels[4:])
    strip.finish()
    np.testing.assert_array_equal(np.concatenate(list(store.read(2, 8))), pixels)
    path = store.path(2, 8)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ImageReadError, match="changed since"):
        list(store.read(2, 8))


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
