"""`sr-tile enhance --server`: the same command and the same bytes, done by another process."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from PIL import Image
from support.encoded_images import encoded, mixed
from support.servers import BlockedEngine

from sr_tile import RemoteEnhancer
from sr_tile.errors import ImageReadError
from sr_tile.serving import client


@pytest.fixture
def run(run):
    """Runs a command line in `tmp_path` and gives (exit code, stderr)."""

    def call(*arguments):
        code, _, errors = run(*arguments)
        return code, errors

    return call


TILES = ("--tile-size", 64, "--overlap", 16)  # what `live` serves with


@pytest.mark.slow
def test_the_same_bytes(run, live, model, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number, (kind, content) in enumerate(mixed(12)):
        (tmp_path / "in" / ("deep" if number % 3 else ".") / f"{number}.{kind}").write_bytes(content)
    server = live()
    for options in ((), ("--format", "jpeg", "--quality", 70), ("--tile-size", 32, "--overlap", 8, "--scale", 2)):
        alone = (*(() if "--tile-size" in options else TILES), *options, "--model", model)
        assert run("enhance", "in", "local", "-r", "--overwrite", *alone)[0] in (0, 1)  # JPEG refuses alpha
        run("enhance", "in", "remote", "-r", "--overwrite", *options, "--server", server.url)
        local = {path.relative_to(tmp_path / "local"): path.read_bytes() for path in (tmp_path / "local").rglob("*.*")}
        assert len(local) >= 9
        for name, content in local.items():
            assert (tmp_path / "remote" / name).read_bytes() == content, name
        assert {path.name for path in (tmp_path / "remote").rglob("*.*")} == {path.name for path in local}


@pytest.mark.parametrize(
    "options",
    [
        ("--strength", 0.5),
        ("--tta", "--edges", "wrap"),
        ("--precision", "fp32"),
        ("--format", "jpeg", "--background", "#ff8800", "--strip", "all"),
        ("--chain", "--width", 400, "--strength", 0.25),
    ],
)
def test_what_is_done_beside_the_network_is_done_by_the_server_as_well(options, run, live, model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded("png", 90, 130, channels=4))
    (tmp_path / "in" / "b.jpg").write_bytes(encoded("jpeg", 80, 120))
    steps = 2 if options[0] == "--chain" else 1
    options = options[steps - 1 :]
    assert run("enhance", "in", "local", *TILES, *options, "--model", ",".join([str(model)] * steps)) == (0, "")
    remote = ("--model", ",".join(["toy"] * steps), "--server", live().url)
    assert run("enhance", "in", "remote", *options, *remote)[0] == 0
    assert run("enhance", "in", "plain", *TILES, "--model", model)[0] == 0
    results = list((tmp_path / "local").iterdir())
    assert len(results) == 2
    for local in results:
        plain = tmp_path / "plain" / local.name
        assert (tmp_path / "remote" / local.name).read_bytes() == local.read_bytes()
        assert {"fp32", "jpeg"} & set(options) or not plain.exists() or plain.read_bytes() != local.read_bytes()


def test_the_python_face_writes_a_file_or_says_why(live, tmp_path):
    (tmp_path / "in.png").write_bytes(encoded())
    (tmp_path / "cut.png").write_bytes(encoded()[:3000])
    enhancer = RemoteEnhancer(live().url)
    with pytest.raises(ImageReadError, match="damaged"):
        enhancer.enhance_file(tmp_path / "cut.png", tmp_path / "out.png")
    enhancer.enhance_file(tmp_path / "in.png", tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 0


def test_one_bad_file_never_stops_the_rest(run, live, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(seed=number))
    (tmp_path / "in" / "2.png").write_bytes(encoded()[:3000])
    code, err = run("enhance", "in", "out", "--server", live().url, "--report", "report.json")
    assert code == 1
    assert "2.png: truncated or damaged" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "3.png"]
    assert json.loads((tmp_path / "report.json").read_text())["counts"] == {"done": 3, "failed": 1}


def test_what_exists_is_left_alone(run, live, tmp_path):
    server = live()
    (tmp_path / "in.png").write_bytes(encoded())
    (tmp_path / "out.png").write_bytes(b"precious")
    code, err = run("enhance", "in.png", "out.png", "--server", server.url)
    assert (code, "--overwrite" in err) == (1, True)
    assert run("enhance", "in.png", "out.png", "--server", server.url, "--skip-existing")[0] == 0
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert run("enhance", "in.png", "out.png", "--server", server.url, "--overwrite")[0] == 0
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


def test_a_file_of_several_pictures_is_refused_without_advice_that_is_none(run, live, tmp_path):
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    code, err = run("enhance", "in.gif", "out.gif", "--server", live().url)
    assert (code, "holds 2 pages or frames" in err, "--pages" in err) == (1, True, False), err


@pytest.mark.slow
def test_a_busy_server_is_asked_again(run, live, tmp_path):
    engine = BlockedEngine()
    server = live({"toy": engine}, waiting=1)
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(seed=number))
    assert run("enhance", "in", "out", "--server", server.url)[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_the_token(run, live, tmp_path, monkeypatch):
    server = live(token="a secret of some length")
    (tmp_path / "in.png").write_bytes(encoded())
    code, err = run("enhance", "in.png", "out.png", "--server", server.url)
    assert (code, "SR_TILE_TOKEN" in err) == (1, True)
    monkeypatch.setenv("SR_TILE_TOKEN", "a secret of some length")
    assert run("enhance", "in.png", "out.png", "--server", server.url)[0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--server", "ftp://host"), "no address"),
        (("--server", "http://127.0.0.1:many"), "no address"),
        (("--server", "http://["), "no address"),
        (("--server", ""), "--server is empty"),
        (("--server", "http://[::1"), "no address"),
        (("--server", "my server"), "no address"),
        (("--server", "http://a..b"), "no address"),
        (("--server", f"http://{'a' * 64}.b"), "no address"),
        (("--server", "http://127.0.0.1:1"), "and `sr-tile serve` running there?"),
        (("--server", "URL", "--device", "cpu"), "--device is for work on this machine"),
        (("--server", "URL", "--batch-size", 4), "--batch-size is for work on this machine"),
        (("--server", "URL", "--stats"), "--stats is for work on this machine"),
        (("--server", "URL", "--model", "nobody"), "not served here; choose from toy"),
        (("--server", "URL", "--scale", 5), "no model served here enlarges by 5"),
    ],
)
def test_what_cannot_be_is_one_clear_line(run, live, tmp_path, options, words):
    (tmp_path / "in.png").write_bytes(encoded())
    url = live().url if "URL" in options else None
    code, err = run("enhance", "in.png", "out.png", *(url if option == "URL" else option for option in options))
    lines = [line for line in err.splitlines() if "serving on" not in line]
    by_the_server = any(said in words for said in ("running there", "served here"))
    assert (code, len(lines)) == (1 if by_the_server else 2, 1), err
    assert words in lines[0]
    assert not (tmp_path / "out.png").exists()


class Liar(BaseHTTPRequestHandler):
    """Answers as its path says: another page, half of an image, nothing, a text, an image of another format."""

    answers: ClassVar = {"page": (404, b"<html", 5), "half": (200, encoded()[:100], 5000), "empty": (200, b"", 0),
               "text": (200, b"[1, 2]", 6), "jpeg": (200, encoded("jpeg"), len(encoded("jpeg")))}  # fmt: skip

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, content, length = self.answers[self.path.split("/")[1]]
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(
    ("path", "words"),
    [("/half", "broke off"), *((f"/{path}", "is it `sr-tile serve`?") for path in ("page", "empty", "text", "jpeg"))],
)
def test_what_is_no_such_server(run, tmp_path, path, words):
    (tmp_path / "in.png").write_bytes(encoded())
    with HTTPServer(("127.0.0.1", 0), Liar) as liar:
        threading.Thread(target=liar.serve_forever, daemon=True).start()
        code, err = run("enhance", "in.png", "out.png", "--server", f"http://127.0.0.1:{liar.server_port}{path}")
        liar.shutdown()
    assert (code, words in err) == (1, True), err
    assert [file.name for file in tmp_path.iterdir()] == ["in.png"]


PICTURE = encoded()
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + PICTURE[:64] + b"\r\n"


@pytest.mark.parametrize(
    ("answer", "drip", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE[:3000], b"", "no such picture"),  # ends where the connection does
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + PICTURE[:3000], b"", "no such picture"),
        (b"HTTP/1.1 422 X\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000, b"", "answered 422"),
        (CHUNKS + b"zz\r\n", b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", b"x" * 2**16, "no such picture"),  # without end
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PICTURE[:64], b"x", "broke off"),
        (CHUNKS, b"1\r\nx\r\n", "broke off"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**12 + PICTURE[:64], b"x" * 2**16, "which no result has"),
        (CHUNKS, b"10000\r\n" + b"x" * 2**16 + b"\r\n", "which no result has"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 200, "headers"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 2**16, "header line"),
        (b"HTTP/1.1 ", b"y" * 2**16, "cannot be reached"),
        (CHUNKS + b"1", b"0" * 2**16, "broke off"),
    ],
)
def test_an_answer_that_is_none_ends_in_one_line(run, tmp_path, monkeypatch, answer, drip, words):
    def serve():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while b"IEND" not in connection.recv(2**16):
                pass
            connection.sendall(answer)
            while drip and not over.wait(0.02):
                connection.sendall(drip)

    monkeypatch.setattr(client, "_ATTEMPT_SECONDS", 0.5 if "no result" not in words else 60)
    monkeypatch.setattr(client, "_PIXEL_BYTES", 0)
    monkeypatch.setattr(client, "_METADATA_BYTES", 2**18)
    (tmp_path / "in.png").write_bytes(PICTURE)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        code, err = run("enhance", "in.png", "out.png", "--server", f"http://127.0.0.1:{listener.getsockname()[1]}")
        over.set()
        server.join()
    assert (code, words in err, err.count("\n")) == (1, True, 1), err
    assert [file.name for file in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "0.0.0.0"), "set a token"),
        (("--host", "0.0.0.0", "--token", "short"), "16 or more"),
        (("--tls-cert", "cert.pem"), "belong together"),
        (("--tls-cert", "cert.pem", "--tls-key", "key.pem"), "no such file"),
        (("--max-upload", "much"), "2GiB"),
        (("--max-upload", "0"), "--max-upload 0 takes no file"),
        (("--queue", 8, "--port", "TAKEN"), "cannot listen"),
        (("--port", 0, "--model", "nobody"), "not known"),
        (("--port", 0, "--tls-cert", "no.pem", "--tls-key", "no.pem"), "the certificate and its key cannot be used: "),
    ],
)
def test_a_server_that_cannot_start_says_why(run, live, options, words, monkeypatch, tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    monkeypatch.setattr(
        "sr_tile.serving.http.uvicorn_server.allow_only_known_formats", lambda: None
    )  # holds for the whole process
    taken = live().port if "TAKEN" in options else 0
    code, err = run("serve", *(taken if option == "TAKEN" else option for option in options))
    assert code == (1 if "TAKEN" in options else 2)
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("sr-tile: error: ")
