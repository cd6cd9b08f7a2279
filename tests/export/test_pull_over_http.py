"""Models from an address: each kind of file, over a server on this machine."""

import functools
import hashlib
import io
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import networks
from support.file_server import FileServer, send, send_from
from support.ncnn_networks import NcnnWriter, run_ncnn
from support.toys import identity_model, noise_image

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, DownloadError, ModelError, ModelLoadError
from sr_tile.export.pull import PullOptions, pull
from sr_tile.models import zoo
from sr_tile.models.download import download


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sr_tile.export.pull.download", functools.partial(download, pause=0, timeout=5))


@pytest.fixture
def serve():
    servers = []

    def start(path, answer):
        servers.append(FileServer(answer if callable(answer) else lambda h, s: send_from(h, s, answer), path))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def made(folder, suffix):
    """The bytes of a small network as a file of this kind."""
    path = folder / f"net{suffix}"
    if suffix == ".onnx":
        identity_model(path, 2)
    elif suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("a", "b"):
                writer = NcnnWriter(seed=ord(name))
                writer.conv("in", "out", 3, 3)
                param = writer.save(folder / f"{name}.param")
                for part in (param, param.with_suffix(".bin")):
                    archive.write(part, f"program/models-{name}/{part.name}")
    else:
        state = networks.nafnet(**networks.SMALL_NAFNET).state_dict()
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    return path.read_bytes()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def options(content, **more):
    return PullOptions(sha256(content), **{"licence": "MIT", **more})


def left():
    """Whatever lies in the cache of models and their checkpoints."""
    return sorted(p.name for f in (zoo.pulled_folder(), zoo.checkpoint_folder()) for p in f.rglob("*") if p.is_file())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx", ".zip"])
def test_each_kind_of_file_is_pulled_and_enhances_by_its_name(suffix, serve, tmp_path):
    content = made(tmp_path, suffix)
    server = serve(f"some/My%20Net{suffix}", content)
    path = pull(server.url, options(content, member="a" if suffix == ".zip" else None))
    name = "a" if suffix == ".zip" else "my-net"
    assert zoo.find(name) == zoo.named(name) == path
    details = OnnxEngine(path, "cpu").spec.details
    assert (details["licence"], details["source"], details["checkpoint_sha256"]) == ("MIT", server.url, sha256(content))
    with Enhancer(name, device="cpu") as enhancer:
        assert enhancer.enhance(noise_image(40, 33)).shape[2] == 3
    assert pull(server.url, options(content, member="a" if suffix == ".zip" else None)) == path
    assert len(server.requests) == 1
    assert len(left()) == 2  # the model and its checkpoint


def test_the_network_that_is_named_is_taken_out_of_an_archive(serve, tmp_path):
    content = made(tmp_path, ".zip")
    server = serve("nets.zip", content)
    with pytest.raises(ArgumentError, match=r"2 ncnn networks; name one with --member: .*models-a/a\.param"):
        pull(server.url, options(content))
    with pytest.raises(ModelLoadError, match=r"no ncnn network c.*models-b/b\.param"):
        pull(server.url, options(content, member="c"))
    picture = np.random.default_rng(0).random((3, 24, 30), dtype=np.float32)
    for member in ("models-a/a", "b.param"):
        path = pull(server.url, options(content, member=member))
        wanted = run_ncnn(tmp_path / f"{path.stem}.param", picture)
        np.testing.assert_allclose(OnnxEngine(path, "cpu").run(picture[None])[0], wanted, atol=1e-4)
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["no archive", "truncated inside", "no weights", "bomb"])
def test_a_damaged_archive_is_one_line_and_leaves_no_model(damage, serve, tmp_path, monkeypatch):
    content = made(tmp_path, ".zip")
    if damage == "no archive":
        content = b"PK\x03\x04 nothing"
    elif damage == "truncated inside":
        content = bytearray(content)
        content[60:90] = bytes(30)
        content = bytes(content)
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.param", (tmp_path / "a.param").read_text())
            if damage == "bomb":
                monkeypatch.setitem(sys.modules["sr_tile.export.source"].LARGEST, ".bin", 1000)
                archive.writestr("a.bin", bytes(1001))
        content = buffer.getvalue()
    with pytest.raises(ModelError) as caught:
        pull(serve("a.zip", content).url, options(content, member="a"))
    assert "\n" not in str(caught.value)
    assert not zoo.pulled()


def test_a_download_that_broke_off_goes_on_there(serve, tmp_path):
    content = made(tmp_path, ".onnx")

    def cut(handler, start):
        if start:
            send_from(handler, start, content)
        else:
            send(handler, 200, content[:100], len(content))

    server = serve("net.onnx", cut)
    assert pull(server.url, options(content)).is_file()
    assert server.requests == [("/net.onnx", None), ("/net.onnx", "bytes=100-")]


def test_a_truncated_file_is_kept_for_the_next_time_and_is_no_model(serve, tmp_path):
    content = made(tmp_path, ".onnx")
    ends = [100]
    server = serve("net.onnx", lambda h, s: send(h, 200, content[: ends[0]], len(content)))
    with pytest.raises(DownloadError, match="100 bytes are kept"):
        pull(server.url, options(content))
    assert not zoo.pulled()
    ends[0] = len(content)
    assert pull(server.url, options(content)).is_file()


def test_another_hash_is_refused_and_nothing_is_left(serve, tmp_path):
    content = made(tmp_path, ".onnx")
    with pytest.raises(DownloadError, match="another file"):
        pull(serve("net.onnx", content).url, PullOptions("0" * 64, licence="MIT"))
    assert left() == []


def test_two_at_once_do_not_spoil_each_other(serve, tmp_path):
    content = made(tmp_path, ".onnx")
    second = threading.Event()

    def slow(handler, start):
        send(handler, 200, content[:50], len(content))
        second.wait(60)
        handler.wfile.write(content[50:])

    server = serve("net.onnx", slow)
    command = [sys.executable, "-m", "sr_tile", "models", "pull", server.url, "--sha256", sha256(content)]
    both = [
        subprocess.Popen([*command, "--licence", "MIT"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    def listen(process):
        for line in process.stderr:  # whoever waits says so, while the other one holds half of the file
            if "waiting" in line:
                second.set()

    readers = [threading.Thread(target=listen, args=(process,)) for process in both]
    for thread in readers:
        thread.start()
    assert second.wait(60)
    outputs = [process.stdout.read() for process in both]
    for thread, process in zip(readers, both, strict=True):
        thread.join(60)
        process.wait(60)
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [f"{zoo.find('net')}\n"] * 2
    assert len(server.requests) == 1
    assert len(left()) == 2


def test_nothing_without_a_free_licence_comes_unless_it_is_accepted(serve, tmp_path, monkeypatch):
    content = made(tmp_path, ".onnx")
    server = serve("net.onnx", content)
    for licence, words in ((None, "not known here.*--licence"), ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 is none")):
        with pytest.raises(ArgumentError, match=words):
            pull(server.url, options(content, licence=licence))
    item = zoo.Official("toy", "toy.onnx", server.url, "CC-BY-NC-4.0", "nothing", sha256(content))
    monkeypatch.setitem(zoo.OFFICIAL, "toy", item)
    with pytest.raises(ArgumentError, match="--accept-licence"):
        pull("toy")
    assert not server.requests
    path = pull("toy", PullOptions(accept_licence=True))
    assert OnnxEngine(path, "cpu").spec.details["licence"] == "CC-BY-NC-4.0"
    assert pull(server.url, options(content, licence="GPL-3.0-or-later")).is_file()


@pytest.mark.slow
def test_a_name_stays_with_its_file(serve, tmp_path):
    first, second = made(tmp_path, ".onnx"), made(tmp_path, ".pth")
    pull(serve("net.onnx", first).url, options(first))
    other = serve("net.pth", second)
    with pytest.raises(ArgumentError, match="pulled already"):
        pull(other.url, options(second))
    assert pull(other.url, options(second, name="other")).stem == "other"
    assert OnnxEngine(pull(other.url, options(second, overwrite=True)), "cpu").spec.scale == 1


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("ftp://example.invalid/net.pth", {}, "http or https"),
        ("https://example.invalid/net.exe", {}, "ends in"),
        ("https://example.invalid/net.pth", {"name": "../x"}, "no name"),
        ("https://example.invalid/net.pth", {"name": "denoise"}, "bundled or official"),
        ("https://example.invalid/photo-x2.pth", {}, "bundled or official"),
        ("https://[example/net.pth", {}, "no address"),
        ("scunet-color-real-psnr", {"name": "mine"}, "are for an address"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_fetched(url, more, words):
    with pytest.raises(ArgumentError, match=words):
        pull(url, PullOptions("0" * 64, **more))


def test_an_address_needs_a_hash(serve, tmp_path):
    server = serve("net.onnx", made(tmp_path, ".onnx"))
    with pytest.raises(ArgumentError, match="--sha256"):
        pull(server.url, PullOptions(licence="MIT"))
    assert not server.requests
