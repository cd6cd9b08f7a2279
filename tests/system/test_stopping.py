import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from sr_tile.system import stopping

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

# "busy" waits where Python runs no handlers: inside one call of a library that keeps the main thread.
HOLDING = """
import contextlib, hashlib, sys, time
from pathlib import Path
from sr_tile.system import stopping
stopping.install()
stopping.GRACE = 0.5
def wait(kind):
    print("ready", flush=True)
    if kind == "busy":
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)
    time.sleep(30)
kind, unwinding, parent = sys.argv[1:]
with stopping.temporary_folder(parent=Path(parent)) as folder:
    (folder / "inside").write_text("x")
    with stopping.unwinding() if unwinding == "unwinding" else contextlib.nullcontext():
        try:
            wait(kind)
        except stopping.Stopped:
            print("unwound", flush=True)
            stopping.end()
"""


@pytest.fixture
def start():
    """Starts Python with a program; what a test leaves running is killed."""
    with contextlib.ExitStack() as stack:

        def begin(code, *arguments):
            command = [sys.executable, "-c", code, *map(str, arguments)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["idle", "busy"])
@pytest.mark.parametrize("unwinding", ["plain", "unwinding"])
def test_a_signal_ends_the_process_in_one_line_and_leaves_nothing(start, tmp_path, number, kind, unwinding):
    process = start(HOLDING, kind, unwinding, tmp_path)
    assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.2)  # for "busy" to begin
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err == f"sr-tile: stopped by {number.name}\n"
    assert list(tmp_path.iterdir()) == []
    assert ("unwound" in out) == (unwinding == "unwinding" and kind == "idle")


@pytest.mark.parametrize("unwinding", ["plain", "unwinding"])
def test_a_signal_that_a_library_takes_meanwhile_ends_the_process_as_any_other(start, tmp_path, unwinding):
    code = HOLDING.replace(
        'print("ready", flush=True)',
        """with stopping.handlers_kept():
        import signal
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        print("ready", flush=True)
        time.sleep(30)""",
    )
    process = start(code, "idle", unwinding, tmp_path)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (143, "sr-tile: stopped by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []
    assert ("unwound" in out) == (unwinding == "unwinding")


def test_what_was_started_with_nohup_stays_deaf_to_sighup(start, tmp_path):
    code = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + HOLDING
    process = start(code, "idle", "plain", tmp_path)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "delays"),
    [  # seconds; one handler serves all signals
        (signal.SIGINT, (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2)),
        (signal.SIGTERM, (0.1, 0.7, 1.4)),
        (signal.SIGHUP, (0.3, 1.0, 1.8)),
    ],
)
def test_a_signal_at_any_moment_of_a_command(tmp_path, number, delays):
    """From the first import to the last: a line and the code, or the command was done already, or Python was not up."""
    from support.image_files import noise, write

    (tmp_path / "in").mkdir()
    for index in range(30):
        write(tmp_path / "in" / f"{index}.png", noise(150, 150, 3))
    for delay in delays:
        options = ["--model", "x2", "--device", "cpu", "--overwrite"]
        command = [sys.executable, "-m", "sr_tile", "enhance", "in", "out", *options]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        time.sleep(delay)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        if number == signal.SIGINT and "Traceback" in err and "sr_tile/__main__" not in err:
            continue  # Python itself was not up yet
        assert process.returncode in (128 + number, 0, -number), err
        assert err == (f"sr-tile: stopped by {number.name}\n" if process.returncode == 128 + number else "")
        folders = [tmp_path, tmp_path / "out"] if (tmp_path / "out").is_dir() else [tmp_path]
        assert [path for folder in folders for path in folder.glob(".*")] == []


def test_ctrl_c_in_the_import_that_handles_it_ends_without_a_traceback():
    code = """
import sys
class Pressed:
    def find_spec(name, path=None, target=None):
        if name == "signal":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed)
import sr_tile.__main__
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_what_comes_before_signals_are_handled_is_little():
    """`python -m sr_tile` imports the package first: what that loads is time in which Ctrl-C gives a traceback."""
    code = "import sys; before = set(sys.modules); import sr_tile; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'sr_tile'" in done.stdout
    assert not {"'logging'", "'re'", "'unicodedata'", "'sr_tile.errors'"} & set(
        done.stdout.strip("[]\n").split(", ")
    ), done.stdout


def test_threads_that_end_the_process_together_say_so_once():
    code = """
import threading, time
from sr_tile.system import stopping
stopping._state["received"] = 2
stopping._remove_unfinished = lambda: time.sleep(0.5)
threading.Thread(target=stopping.end).start()
stopping.end()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "sr-tile: stopped by SIGINT\n")


def test_a_temporary_folder_can_be_used_and_removed_whatever_umask_takes_away(tmp_path):
    before = os.umask(0o777)
    try:
        with stopping.temporary_folder("x-", tmp_path) as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_temporary_folder_goes_with_its_block(tmp_path):
    with stopping.temporary_folder("x-", tmp_path) as folder:
        (folder / "a").write_text("b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("age", [3600, -3600 * 24 * 365])
def test_an_abandoned_folder_goes_whatever_the_clock_says(tmp_path, age):
    """One from the future: the clock was set back since."""
    left, young = tmp_path / "sr-tile-a.sr-tile-tmp", tmp_path / "sr-tile-b.sr-tile-tmp"
    left.mkdir()
    young.mkdir()
    os.utime(left, (time.time() - age,) * 2)
    with stopping.temporary_folder(parent=tmp_path):
        assert (left.exists(), young.exists()) == (False, True)
