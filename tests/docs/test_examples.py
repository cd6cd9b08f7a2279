"""What README and docs show is run, as it is written, on small files of the names that they use."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data
from support.ncnn_networks import NcnnWriter
from support.toys import conv_model

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Installs are run in clean environments by .ci/run; pulls need the network.
NOT_HERE = ("pip ", "python -m venv", "python3 -m venv", ". .venv", "git ", "apt", "sr-tile models pull")
SHELL = "|<>*?$;&()~"
OWN_PROCESS = re.compile("--mem-limit|--engine ray|--server")  # what they count or start is of a process
# What stands for something that a test has not got.
STANDS_FOR = {"s3://in/": "file://{here}/photos/", "s3://out/": "file://{here}/out/", "--actors 8": "--actors 2"}


def blocks(language: str):
    """(document, number of its first line, text) of each fenced block."""
    for document in DOCUMENTS:
        text = document.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield document.name, text[: match.start(1)].count("\n") + 1, match[1]


def commands():
    """Each command of each shell block; a backslash at the end joins lines, and comments go."""
    for document, first, text in blocks("(?:sh|bash|console|shell)"):
        for number, line in enumerate(text.replace("\\\n", " " * 2).splitlines(), first):
            command = re.sub(r"(^|\s+)#.*", "", line.removeprefix("$ ")).strip()
            if command and not command.startswith(NOT_HERE):
                yield pytest.param(command, id=f"{document}:{number}")


def film(path, photo):
    """Three frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *photo.size, "yuv420p"
        for turn in range(3):
            container.mux(stream.encode(av.VideoFrame.from_image(photo.rotate(turn))))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A folder with all the files that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    photo = Image.fromarray(data.astronaut()[40:168, 180:308])
    for name in ("in.png", "in.tif", "in.jpg", "huge.png", "photos/a.png", "photos/b.jpg", "scans/c.tif"):
        (folder / name).parent.mkdir(exist_ok=True)
        photo.save(folder / name)
    photo.save(folder / "pages.tif", save_all=True, append_images=[photo, photo])
    photo.save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(9)], duration=100)
    film(folder / "film.mp4", photo)
    shutil.copy(ROOT / "models" / "clean-x2.onnx", folder / "net.onnx")
    conv_model(folder / "my.onnx", 2)
    (folder / "my-folder").mkdir()
    conv_model(folder / "my-folder" / "own.onnx", 2)
    conv_model(folder / "fixed.onnx", 2, shape=(1, 3, 64, 64))
    tools = folder / "bin"
    tools.mkdir()
    (tools / "sr-tile").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sr_tile "$@"\n')
    (tools / "sr-tile").chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    """One for all examples, as a user has it: what they measure and export is done once."""
    monkeypatch.setenv("XDG_CACHE_HOME", cache)


@pytest.fixture
def here(template, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@contextlib.contextmanager
def serving(*arguments: str):
    """A server on a free port, until it is interrupted: (address, what it said)."""
    process = subprocess.Popen(["sr-tile", "serve", "--port", "0", *arguments], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        yield re.search(r"serving on http://(\S+)/", line)[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="session")
def served(template):
    """The address of a server with these models, one for all examples."""
    with contextlib.ExitStack() as stack, contextlib.chdir(template), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{template / 'bin'}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(ROOT))
        addresses = {models: stack.enter_context(serving(*models)) for models in ((), ("--model", "my.onnx"))}
        yield lambda *models: addresses[models]


def prepare(command: str) -> None:
    """Make the networks that a command reads, and no file that it is to write."""
    words = command.split()
    if words[1] in ("export-onnx", "rebatch"):
        Path(next(word for word in words[3:] if word.endswith(".onnx"))).unlink(missing_ok=True)
    if "net.pth" in words:
        import torch
        from support.networks import SMALL_NAFNET, nafnet

        torch.save(nafnet(**SMALL_NAFNET).state_dict(), "net.pth")
    if "net.param" in words:
        writer = NcnnWriter()
        writer.conv("in", "middle", 3, 8)
        writer.conv("middle", "out", 8, 3)
        writer.save(Path("net.param"))


@pytest.mark.slow
@pytest.mark.parametrize("command", list(commands()))
def test_a_command_does_what_is_shown(here, run, served, command):
    if command.startswith("sr-tile serve"):
        with serving(*command.split()[2:]) as address:
            assert address
        return
    if ":8000" in command:
        models = () if "photo-x2" in command else ("--model", "my.onnx")
        command = re.sub(r"[\w.]+:8000", served(*models), command)
    for shown, used in STANDS_FOR.items():
        command = command.replace(shown, used.format(here=here))
    prepare(command)
    before = set(here.rglob("*"))
    if command.startswith("sr-tile ") and not set(command) & set(SHELL) and not OWN_PROCESS.search(command):
        code, out, err = run(*shlex.split(command)[1:])
    else:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
        code, out, err = done.returncode, done.stdout, done.stderr
    if "--device cuda" in command and code:
        assert re.fullmatch(r"sr-tile: error: device cuda.*\n", err), err
        return
    assert code == 0, err
    assert "Traceback" not in err
    made = [path for path in set(here.rglob("*")) - before if path.is_file() and path.stat().st_size]
    shows = "--dry-run" in command or command.split()[1] in ("plan", "inspect", "models", "job")
    assert out if shows else made


@pytest.mark.parametrize(
    "code", [pytest.param(text, id=f"{document}:{number}") for document, number, text in blocks("python")]
)
def test_python_runs_as_it_is_shown(here, code):
    images = data.astronaut()[:64, :80], data.chelsea()[:50, :60], data.camera()[:40, :40]
    names = dict(zip(("image", "other", "third"), images, strict=True))
    exec(compile(code, "example", "exec"), names)
    if "large" in names:
        assert names["large"].shape == (128, 160, 3)
    for image, result in zip(images, names.get("many", ()), strict="many" in names):
        assert result.shape[:2] == tuple(2 * side for side in image.shape[:2])
    if "result" in names:
        assert np.isfinite(names["result"]).all()


def test_there_are_examples():
    assert len(list(commands())) > 10
    assert len(list(blocks("python"))) >= 2
