"""Part files belong to their writer, and to nobody once that is gone."""

import os
import signal
import subprocess
import sys

import pytest

from sr_tile.system.part_file import create_part, remove_abandoned_parts

NAMES = [
    "X",
    "X.png",
    "a" * 251 + ".png",
    "a" * 80 + "1.png",
    "a" * 80 + "2.png",
    "図" * 83 + ".png",
    "\udcff.png",
    "*?[",
]


def test_each_writer_has_a_file_of_its_own_with_a_legal_name(tmp_path):
    made = [create_part(tmp_path / name) for name in NAMES for _ in range(3)]
    assert len({path for path, _ in made}) == len(made)
    for path, _ in made:
        assert len(os.fsencode(path.name)) < 143
    remove_abandoned_parts(tmp_path)
    assert all(path.exists() for path, _ in made), "they are being written"
    for _, descriptor in made:
        os.close(descriptor)
    remove_abandoned_parts(tmp_path)
    assert not any(path.exists() for path, _ in made)


def test_other_files_are_left_alone(tmp_path):
    others = [tmp_path / name for name in ("a.png", ".hidden", ".a.png.part", ".a.123.part", "a.1.00000000.part")]
    for path in others:
        path.touch()
    remove_abandoned_parts(tmp_path)
    remove_abandoned_parts(tmp_path / "nothing")
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_a_killed_process_left_goes(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from sr_tile.system.part_file import create_part\n"
        "create_part(Path(sys.argv[1]) / 'a.png'); print('made', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "made\n"
        remove_abandoned_parts(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
    remove_abandoned_parts(tmp_path)
    assert not list(tmp_path.iterdir())
