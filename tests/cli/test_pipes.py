"""Standard input that does not end, streams that are full or closed, and signals meanwhile."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.image_files import noise, write
from support.toys import identity_model

from sr_tile.cli import pipes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and devices of POSIX")


@pytest.fixture
def here(tmp_path):
    write(tmp_path / "in.png", noise(20, 20, 3))
    identity_model(tmp_path / "m.onnx", 2)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def start(here, *arguments, before="pass", **streams):
    command = [sys.executable, "-m", "sr_tile", *arguments]
    code = f"import os, sys; {before}; os.execv(sys.argv[1], sys.argv[1:])"
    environment = {**os.environ, "TMPDIR": str(here / "tmp")}
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, "-c", code, *command], cwd=here, env=environment, **streams)


ENHANCE = ("--model", "m.onnx", "--device", "cpu", "-q")


class Endless(io.RawIOBase):
    """Zeros without end; counts them."""

    taken = 0

    def read(self, size):
        self.taken += size
        return bytes(size)


@pytest.mark.parametrize("free", [10**9, 100_000])
def test_standard_input_without_an_end_is_refused(run, here, monkeypatch, free):
    monkeypatch.setattr(pipes, "MOST_BYTES", 300_000)
    monkeypatch.setattr(pipes.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    endless = Endless()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
    code, _, err = run("enhance", "-", "out.png", *ENHANCE)
    most = min(300_000, free // 2)
    assert (code, len(err.splitlines()), "error: -: " in err, "name the file itself" in err) == (1, 1, True, True), err
    assert endless.taken <= most + 1
    assert not (here / "out.png").exists()


def test_standard_input_that_cannot_be_read_is_named(here):
    with Path("/dev/null").open("wb") as unreadable:
        process = start(here, "enhance", "-", "out.png", *ENHANCE, stdin=unreadable)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith(b"sr-tile: error: -: cannot be read: "), err
    assert b"TMPDIR" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_came_in_goes_with_a_signal(here, number):
    process = start(here, "enhance", "-", "out.png", *ENHANCE, stdin=subprocess.PIPE)
    end = time.monotonic() + 60
    while not list((here / "tmp").glob("*/stdin")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    process.stdin.close()
    if number == signal.SIGKILL:  # the next run sweeps what is no longer young
        for folder in (here / "tmp").iterdir():
            os.utime(folder, (0, 0))
        with (here / "in.png").open("rb") as picture:
            assert start(here, "enhance", "-", "out.png", *ENHANCE, stdin=picture).wait(60) == 0
    assert list((here / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_named(here, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    for command in (("enhance", "in.png", "-", *ENHANCE), ("models", "list"), ("--help",)):
        with Path("/dev/full").open("wb") as full:
            process = start(here, *command, stdout=full)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err.splitlines()) == (
            1,
            [b"sr-tile: error: standard output: No space left on device"],
        )


def test_a_closed_standard_output_takes_no_picture(here):
    process = start(here, "enhance", "in.png", "-", *ENHANCE, before="os.close(1)")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count(b"\n")) == (2, 1)
    assert err.startswith(b"sr-tile: error: output -: standard output is closed"), err


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["full", "pipe"])
def test_nobody_hears_the_messages_and_the_work_is_done(here, gone):
    """A warning per image goes to a full disk, or to a pipe whose reader has ended."""
    (here / "in").mkdir()
    for index in range(3):
        write(here / "in" / f"{index}.png", noise(20, 20, 3))
    (here / "in" / "bad.png").write_bytes(b"no picture")
    if gone == "full":
        stderr = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stderr = os.pipe()
        os.close(reader)
    process = start(here, "enhance", "in", "out", *ENHANCE, "--stats", "-v", stderr=stderr)
    os.close(stderr)
    assert process.wait(60) == 1  # for bad.png
    assert sorted(path.name for path in (here / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    with Path("/dev/full").open("wb") as full:
        assert start(here, "enhance", "in.png", "out.png", "--nonsense", stderr=full).wait(60) == 2
