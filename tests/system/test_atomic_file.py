import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sr_tile.system.atomic_file import AtomicFile, TargetError, atomic_write, refusal


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report.json"
    with atomic_write(target) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), atomic_write(target) as temporary:
        temporary.write_text("two\ud800", encoding="utf-8")
    assert target.read_text() == "one"
    assert list(tmp_path.iterdir()) == [target]


def test_a_late_buffer_reaches_no_other_file(tmp_path):
    """Buffers are written when they are collected; numbers of descriptors are given out again at once."""
    file = AtomicFile(tmp_path / "a")
    stream, number = file.stream(), file.descriptor
    stream.write(b"late")
    file.discard()
    with (tmp_path / "b").open("wb") as other:
        assert other.fileno() == number
        stream.close()
    assert (tmp_path / "b").read_bytes() == b""
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_stream_that_cannot_be_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(24, "Too many open files")

    file = AtomicFile(tmp_path / "a")
    monkeypatch.setattr(os, "dup", full)
    with pytest.raises(OSError, match="Too many"):
        file.stream()
    assert list(tmp_path.iterdir()) == []


def test_two_writers_do_not_share_a_file(tmp_path):
    target = tmp_path / "model.onnx"
    with atomic_write(target) as first, atomic_write(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_or_folder_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(FileExistsError), atomic_write(tmp_path / name):
            pass
    assert (tmp_path / "pipe").is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "folder", "link"}


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_what_is_replaced_keeps_its_mode_owner_and_links(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")
    target.chmod(0o640)
    if os.getuid() == 0:
        os.chown(target, 12345, 12345)
    owner = target.stat().st_uid
    (tmp_path / "link").symlink_to("a")
    with atomic_write(tmp_path / "link") as part:
        part.write_text("new")
    assert (tmp_path / "link").is_symlink()
    status = target.stat()
    assert (target.read_text(), status.st_mode & 0o777, status.st_uid) == ("new", 0o640, owner)


@pytest.mark.skipif(os.name == "nt", reason="kills of POSIX")
def test_the_next_process_sweeps_what_a_killed_one_left_and_nothing_that_is_in_use(tmp_path):
    code = (
        "import os, sys, signal\nfrom pathlib import Path\n"
        "from sr_tile.system.atomic_file import atomic_write\nfrom sr_tile.system.stopping import temporary_folder\n"
        "with temporary_folder('work-', Path('.')), atomic_write(Path('a' * 240)) as part:\n"
        "    part.write_text('half'); print('ready', flush=True); sys.stdin.read()"
    )
    start = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tmp_path}
    killed, alive = (subprocess.Popen(start, **pipes) for _ in range(2))
    for process in (killed, alive):
        assert process.stdout.readline() == b"ready\n"
    killed.kill()
    killed.wait()
    for folder in tmp_path.glob("work-*"):
        os.utime(folder, (0, 0))
    assert len(list(tmp_path.iterdir())) == 4
    subprocess.run(start, cwd=tmp_path, input=b"", check=True, capture_output=True)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 3, left  # what the living process has, and the result
    alive.communicate(timeout=30)
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 240]


def test_a_file_that_is_replaced_hands_on_its_mode_and_a_new_one_has_the_usual(tmp_path):
    target = tmp_path / "shared.png"
    before = os.umask(0o027)
    try:
        for mode in (0o640, 0o664, 0o600):
            with atomic_write(target, durable=True) as temporary:
                temporary.write_text("one")
            if mode == 0o640:
                assert stat.S_IMODE(target.stat().st_mode) == 0o640  # 0o666 less the umask
            target.chmod(mode)
            with atomic_write(target) as temporary:
                temporary.write_text("two")
            assert stat.S_IMODE(target.stat().st_mode) == mode
            target.unlink()
    finally:
        os.umask(before)


def test_what_no_file_can_replace_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "taken").write_text("old")
    for name, overwrite, why in (
        ("fifo", True, "is a device, pipe or socket"),
        ("link", True, "is a device, pipe or socket"),
        ("/dev/null", True, "is a device, pipe or socket"),
        ("folder", True, "is a folder"),
        ("missing/file", True, "does not exist"),
        ("taken", False, "exists already"),
    ):
        with pytest.raises(TargetError, match=why), atomic_write(tmp_path / name, overwrite=overwrite):
            raise AssertionError("was let in")
        assert why in refusal(tmp_path / name, overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "folder", "link", "taken"]
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path, monkeypatch):
    target = tmp_path / "file"
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError("no links here")))
        file = AtomicFile(target, overwrite=False)
        target.write_text("theirs")
        with pytest.raises(TargetError, match="someone else"):
            file.commit()
        file.discard()
        assert target.read_text() == "theirs"
        target.unlink()
        with atomic_write(target, overwrite=False) as temporary:
            temporary.write_text("mine")
        assert target.read_text() == "mine"
        target.unlink()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_discarded_leaves_neither_a_name_nor_a_descriptor(tmp_path):
    file = AtomicFile(tmp_path / "file")
    os.write(file.descriptor, b"half")
    file.discard()
    file.discard()
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.descriptor)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing here tells where an open file lies")
def test_a_part_file_goes_where_its_folder_was_moved(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    file = AtomicFile(before / "a.png")
    before.rename(after)
    with pytest.raises(OSError, match=r"a\.png"):
        file.commit()
    file.discard()
    assert list(after.iterdir()) == []
