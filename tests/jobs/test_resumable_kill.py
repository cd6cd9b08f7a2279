"""Jobs killed by SIGKILL, as the kernel does when memory runs out."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tifffile
from PIL import Image
from support.toys import conv_model, noise_image

import sr_tile
from sr_tile.jobs.journal import NAME

KILLS = 6
# Giants and their strips are small here, so that a test has some.
MAIN = (
    "import sr_tile.jobs.durable_file as d; d.GIANT_PIXELS, d.STRIP_PIXELS = 400_000, 80_000\n"
    "from sr_tile.cli.main import main; main()"
)


def start(folder, job, out):
    arguments = ["enhance", "in", out, "--job", job, "--model", "model.onnx", "--tile-size", "64", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(sr_tile.__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments], cwd=folder, env=environment, stderr=subprocess.PIPE
    )


def events(path):
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def kill_at_random(process, journal, begun, longest, chance):
    """Wait for the job to be under way again, then a while, then kill it; False where it was done before."""
    deadline = time.monotonic() + 120
    while sum(line["event"] in ("start", "resume") for line in events(journal)) == begun:
        if process.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.005)
    time.sleep(chance.uniform(0, longest))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def check_recomputation(lines):
    """Each kill costs one image or one strip: by the journal, nothing that it says is finished is begun again."""
    max_in_flight, strips, again = None, set(), 0
    for line in lines:
        if line["event"] == "begin":
            if line["target"] == max_in_flight:
                again += 1
            else:
                assert max_in_flight is None, "two images were under way"
            max_in_flight = line["target"]
        elif line["event"] == "strip":
            assert line["target"] == max_in_flight
            assert (line["target"], line["first"]) not in strips, "a finished strip was computed again"
            strips.add((line["target"], line["first"]))
        elif line["event"] == "done":
            max_in_flight = None
    done = Counter(line["target"] for line in lines if line["event"] == "done")
    assert set(done.values()) == {1}
    return again


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_job_killed_at_several_moments_gives_the_same_bytes(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    conv_model(tmp_path / "model.onnx", 2)
    (tmp_path / "in").mkdir()
    for index in range(6):
        Image.fromarray(noise_image(90 + 7 * index, 120, seed=index)).save(tmp_path / "in" / f"{index}.png")
    Image.fromarray(noise_image(900, 240, seed=9)).save(tmp_path / "in" / "3-giant.png")
    process = start(tmp_path, "undisturbed", "expected")
    assert process.wait(120) == 0, process.stderr.read()
    times = [line["time"] for line in events(tmp_path / "undisturbed" / NAME)]
    expected = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    kills = jobs = again = 0
    while kills < KILLS:
        job, out = f"job{jobs}", f"out{jobs}"
        journal = tmp_path / job / NAME
        begun = 0
        while kills < KILLS:
            alive = kill_at_random(start(tmp_path, job, out), journal, begun, (times[-1] - times[0]) / 2, chance)
            begun = sum(line["event"] in ("start", "resume") for line in events(journal))
            kills += alive
            if not alive:
                break
        process = start(tmp_path, job, out)
        assert process.wait(120) == 0, process.stderr.read()
        found = {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}
        assert found.keys() == expected.keys()
        assert all(found[name] == expected[name] for name in expected)
        again += check_recomputation(events(journal))
        assert not any(Path(tmp_path / job / "strips").iterdir())
        jobs += 1
    print(f"{kills} kills in {jobs} jobs, {again} images begun again")
    assert again <= kills


def film(path):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'sr-tile[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for index in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise_image(96, 128, seed=index))))
        container.mux(stream.encode(None))


def pages(path):
    with tifffile.TiffWriter(path) as file:
        for index in range(30):
            file.write(noise_image(90 + index, 128, seed=index), photometric="rgb")


def animation(path):
    frames = [Image.fromarray(noise_image(96, 128, seed=index)) for index in range(30)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("name", "make", "moments"), [("a.mkv", film, 3), ("a.tif", pages, 3), ("a.png", animation, 3)]
)
def test_a_file_of_several_pictures_killed_at_random_has_the_same_bytes(tmp_path, name, make, moments):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, suffix = random.Random(seed), Path(name).suffix
    conv_model(tmp_path / "model.onnx", 2)
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / name)
    main = "import sr_tile.jobs.durable_file as d; d.SEGMENT_FRAMES = 10\nfrom sr_tile.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(sr_tile.__file__).parent.parent)}

    def begin(job, out):
        options = ["--job", job, "--model", "model.onnx", "--device", "cpu", "--quiet"]
        command = [sys.executable, "-c", main, "enhance", f"in/{name}", out, *options]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

    process = begin("undisturbed", f"expected{suffix}")
    assert process.wait(120) == 0, process.stderr.read()
    times = [line["time"] for line in events(tmp_path / "undisturbed" / NAME)]
    kills = jobs = 0
    while kills < moments:
        alive, begun, journal = True, 0, tmp_path / f"job{jobs}" / NAME
        while alive and kills < moments:
            alive = kill_at_random(
                begin(f"job{jobs}", f"{jobs}{suffix}"), journal, begun, (times[-1] - times[0]) / 2, chance
            )
            begun = sum(line["event"] in ("start", "resume") for line in events(journal))
            kills += alive
        process = begin(f"job{jobs}", f"{jobs}{suffix}")
        assert process.wait(120) == 0, process.stderr.read()
        assert (tmp_path / f"{jobs}{suffix}").read_bytes() == (tmp_path / f"expected{suffix}").read_bytes()
        assert not any(Path(tmp_path / f"job{jobs}" / "strips").iterdir())
        assert not list(tmp_path.glob(".*.part"))
        jobs += 1
    print(f"{kills} kills in {jobs} jobs")
