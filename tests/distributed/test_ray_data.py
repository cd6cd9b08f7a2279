"""The engine on a Ray of two cores; slow, for Ray takes long to start."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image
from support.toys import conv_model, noise_image

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sr-tile[ray]'")

from support import poison  # noqa: E402
from support.servers import until  # noqa: E402

from sr_tile.distributed import ray_data, tasks  # noqa: E402
from sr_tile.distributed.ray_data import RayConfig, run_ray  # noqa: E402
from sr_tile.distributed.storage import select_urls  # noqa: E402
from sr_tile.distributed.tasks import EnhanceConfig  # noqa: E402
from sr_tile.enhancer import Enhancer  # noqa: E402
from sr_tile.jobs import durable_file  # noqa: E402
from sr_tile.jobs.files import run_files  # noqa: E402
from sr_tile.jobs.journal import NAME  # noqa: E402
from sr_tile.jobs.resumable import ResumableJob  # noqa: E402
from sr_tile.jobs.selection import select_files  # noqa: E402
from sr_tile.planner import Settings  # noqa: E402

pytestmark = pytest.mark.slow
SETTINGS = Settings(tile=32, overlap=8, halo=2, batch=2)
FLEET = RayConfig(actors=2, batch=2)


@pytest.fixture(scope="module", autouse=True)
def two_cores():
    os.environ.setdefault("RAY_worker_niceness", "0")  # or a busy machine starves them
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(16):
        channels = (1, 3, 4)[index % 3]
        image = noise_image(30 + 3 * index, 50 + index, channels, seed=index)
        Image.fromarray(image.squeeze()).save(tmp_path / "in" / f"{index:02}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"bad")
    conv_model(tmp_path / "model.onnx", 2)
    with Enhancer(tmp_path / "model.onnx", device="cpu", settings=SETTINGS) as enhancer:
        list(run_files(enhancer, select_files([str(tmp_path / "in")], str(tmp_path / "expected")).pairs))
    return tmp_path


def run(folder, on_result=lambda result: None, giant_pixels=durable_file.GIANT_PIXELS, **keywords):
    config = EnhanceConfig(str(folder / "model.onnx"), device="cpu", settings=SETTINGS, giant_pixels=giant_pixels)
    results = {}
    for result in run_ray(select_urls([str(folder / "in")], str(folder / "out")).pairs, config, FLEET, **keywords):
        assert Path(result.source).name not in results, "an image has two results"
        results[Path(result.source).name] = result
        on_result(result)
    return results


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def actors():
    """Processes of the actors: Ray names them after what they do."""
    found = [process for process in psutil.Process().children(recursive=True) if process.is_running()]
    return [process for process in found if "MapWorker" in " ".join(process.cmdline())]


def test_a_folder_gives_the_bytes_of_the_local_engine_and_every_file_a_result(photos):
    results = run(photos)
    assert len(results) == 17
    assert [name for name, result in results.items() if result.status != "done"] == ["bad.png"]
    assert "not an image" in results["bad.png"].error
    assert contents(photos / "out") == contents(photos / "expected")
    assert {result.status for result in run(photos, existing="skip").values()} == {"skipped", "failed"}


def test_an_actor_that_is_killed_loses_nothing(photos):
    killed = []

    def kill_one(result):
        if not killed and (found := actors()):
            killed.append(found[0].pid)
            os.kill(found[0].pid, signal.SIGKILL)

    results = run(photos, kill_one)
    assert killed
    assert len(results) == 17
    assert contents(photos / "out") == contents(photos / "expected")


def test_actors_of_an_earlier_try_that_live_on_block_nothing(photos):
    import ray

    fleet = FLEET.connect()

    @ray.remote(num_cpus=fleet.cpus_per_actor)
    class Idle:
        def here(self):
            return True

    left = [Idle.remote() for _ in range(fleet.actors)]
    assert all(ray.get([actor.here.remote() for actor in left]))
    assert len(run(photos)) == 17
    assert contents(photos / "out") == contents(photos / "expected")


def test_a_giant_over_two_actors_and_a_journal_that_the_local_engine_reads(photos):
    (photos / "in" / "bad.png").unlink()
    with ResumableJob(photos / "job", {"model": "toy"}) as job:
        results = run(photos, giant_pixels=14_000, job=job)
    assert {result.status for result in results.values()} == {"done"}
    assert contents(photos / "out") == contents(photos / "expected")
    lines = [json.loads(line) for line in (photos / "job" / NAME).read_text().splitlines()]
    assert sum(line["event"] == "strip" for line in lines) > 8
    assert sum(line["event"] == "done" for line in lines) == 16
    begun = len([line for line in lines if line["event"] == "begin"])
    enhancer = Enhancer(photos / "model.onnx", device="cpu", settings=SETTINGS)
    with enhancer, ResumableJob(photos / "job", {"model": "toy"}) as job:
        again = list(job.run(enhancer, select_files([str(photos / "in")], str(photos / "out")).pairs))
    assert {result.status for result in again} == {"done"}
    lines = [json.loads(line) for line in (photos / "job" / NAME).read_text().splitlines()]
    assert len([line for line in lines if line["event"] == "begin"]) == begun


@pytest.mark.parametrize("where", ["decode", "actor"])
def test_an_image_that_kills_its_worker_fails_after_three_tries_and_the_others_go_on(photos, monkeypatch, where):
    (photos / "in" / "bad.png").unlink()
    for name in ("poison-1", "poison-2"):
        shutil.copy(photos / "in" / "03.png", photos / "in" / f"{name}.png")
    if where == "decode":
        monkeypatch.setattr(tasks, "decode", poison.decode)
    else:
        monkeypatch.setattr(ray_data, "Actor", poison.Actor)
    results = run(photos)
    failed = {name: result.error for name, result in results.items() if result.status != "done"}
    assert set(failed) == {"poison-1.png", "poison-2.png"}
    for name, error in failed.items():
        assert name in error
        assert "died each time" in error
        tries = len((photos / "in" / name).with_suffix(".tries").read_text())
        assert 2 <= tries <= 3, "once with others, where another may die first, and twice alone"
    (photos / "expected" / "bad.png").unlink(missing_ok=True)
    assert contents(photos / "out") == contents(photos / "expected")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_driver_that_is_killed_leaves_no_process(photos):
    """Ray's own agents look for it for up to 75 seconds where they were busy with something else; all others go at once."""
    mark = f"SR_TILE_TEST={secrets.token_hex(8)}"
    name, value = mark.split("=")
    command = [sys.executable, "-m", "sr_tile", "enhance", "in", "out2", "--engine", "ray", "--model", "model.onnx"]
    environment = {**os.environ, name: value, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("RAY_ADDRESS", None)
    driver = subprocess.Popen(
        [*command, "--device", "cpu"], cwd=photos, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert until(lambda: (photos / "out2").is_dir() and any((photos / "out2").glob("*.png")), 180)
    driver.kill()
    driver.wait()
    assert until(lambda: not marked(name, value), 180), marked(name, value)


def marked(name, value):
    """Processes that were started, however indirectly, with this variable."""
    found = []
    for process in psutil.process_iter():
        # psutil's own environ() ends at the first empty entry, which Ray's processes have.
        with contextlib.suppress(psutil.Error, OSError):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if f"{name}={value}".encode() in environment and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()).strip())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])  # one handler serves all
def test_a_signal_ends_a_driver_of_ray_in_one_line(tmp_path, number):
    code = (
        "import time\nfrom sr_tile.system import stopping\nstopping.install()\n"
        "from sr_tile.distributed.ray_data import RayConfig\nRayConfig().connect()\nprint('ready', flush=True)\n"
        "time.sleep(60)"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **streams)
    while "ready" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    process.send_signal(number)
    _, said = process.communicate(timeout=180)
    lines = [line for line in said.splitlines() if "Set ray log level" not in line]  # which Ray says of itself
    assert (process.returncode, lines) == (128 + number, [f"sr-tile: stopped by {number.name}"])
