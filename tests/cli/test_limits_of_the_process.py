"""Few descriptors, and names that are legal but long: the image fails in one line or is done, and nothing is left."""

import subprocess
import sys

import pytest
from support.image_files import noise, write
from support.toys import identity_model

resource = pytest.importorskip("resource")


@pytest.mark.slow
def test_without_descriptors_an_image_fails_and_the_others_go_on(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(12):
        write(tmp_path / "in" / f"{index}.png", noise(60, 80, 3))
    model = identity_model(tmp_path / "m.onnx", 2)
    command = [sys.executable, "-m", "sr_tile", "enhance", "in", "out", "--model", model, "--device", "cpu", "-q"]
    for most in (24, 28, 48):
        code = f"import resource, os, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most})); "
        code += "os.execv(sys.argv[1], sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--overwrite"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        assert "did not expect" not in done.stderr
        assert done.returncode in (0, 1)
        out = list((tmp_path / "out").glob("*")) if (tmp_path / "out").is_dir() else []
        assert [path for path in out if path.name.startswith(".")] == []
        if most == 48:
            assert len(out) == 12


def test_a_legal_name_of_eighty_wide_characters_is_written(run, tmp_path):
    write(tmp_path / "in.png", noise(20, 20, 3))
    name = "漢" * 80 + ".png"
    model = identity_model(tmp_path / "m.onnx", 2)
    assert run("enhance", "in.png", name, "--model", model, "--device", "cpu")[0] == 0
    assert (tmp_path / name).is_file()
    code, _, err = run("enhance", "in.png", "b" * 300 + ".png", "--model", model, "--device", "cpu")
    assert code == 1
    assert len(err.splitlines()) == 1
    code, _, err = run("enhance", "in.png", "x/" * 2000 + "y.png", "--model", model, "--device", "cpu")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "did not expect" not in err
    assert run("enhance", "in.png", "a\x1b]0;x\x07.tga", "--model", model, "--device", "cpu")[2].count("\x1b") == 0


def test_what_may_not_be_read_or_written_is_named(tmp_path):
    import os
    import shutil

    command = [sys.executable, "-m", "sr_tile", "enhance", "--device", "cpu", "-q"]
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may read and write everything, and there is no setpriv to give that up")
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", rights, "--inh-caps", rights, *command]
    model = identity_model(tmp_path / "m.onnx", 1)
    for folder in ("in", "in/sub", "shut"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "in" / "a.png", noise(20, 20, 3))
    (tmp_path / "shut" / "m.onnx").write_bytes(model.read_bytes())
    for folder in ("in/sub", "shut"):
        (tmp_path / folder).chmod(0)
    cases = {
        "shut/x.png": ("in/a.png", "shut/x.png", "--model", model),
        "shut/m.onnx": ("in/a.png", "o.png", "--model", "shut/m.onnx"),
        "shut/job": ("in/a.png", "o.png", "--model", model, "--job", "shut/job"),
        "in/sub": ("in", "out", "-r", "--model", model),
    }
    for name, arguments in cases.items():
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, name
        assert name in done.stderr
        assert "Traceback" not in done.stderr
        assert "did not expect" not in done.stderr
        assert [line for line in done.stderr.splitlines() if not line.startswith("sr-tile: ")] == []
    assert (tmp_path / "out" / "a.png").is_file()
    for folder in ("in/sub", "shut"):
        (tmp_path / folder).chmod(0o700)
