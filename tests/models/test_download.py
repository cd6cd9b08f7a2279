import contextlib
import hashlib
import ssl
import threading
import time
import urllib.error

import numpy as np
import pytest
from support.file_server import FileServer, send, send_from

from sr_tile.errors import DownloadError
from sr_tile.models.download import download

CONTENT = np.random.default_rng(0).bytes(500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        servers.append(FileServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def whole(handler, start, content=CONTENT):
    send_from(handler, start, content)


def broken(handler, start, step=200_000):
    """A server with ranges that breaks off after `step` bytes."""
    if start + step >= len(CONTENT):
        return whole(handler, start)
    headers = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
    return send(handler, 206 if start else 200, CONTENT[start : start + step], len(CONTENT) - start, **headers)


def fetch(server, target, **keywords):
    download(server.url, target, SHA256, **{"timeout": 5, "pause": 0, **keywords})


def part_of(target):
    return target.with_name(f"{target.name}.{SHA256[:12]}.part")


def test_a_file_comes_whole_and_leaves_nothing_beside_it(serve, tmp_path):
    seen = []
    fetch(serve(whole), tmp_path / "f.pth", on_bytes=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "f.pth").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["f.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_broken_connection_goes_on_where_it_stopped(serve, tmp_path):
    server = serve(broken)
    fetch(server, tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=200000-", "bytes=400000-"]


def test_the_next_run_goes_on_where_the_last_one_stopped(serve, tmp_path):
    part_of(tmp_path / "f.pth").write_bytes(CONTENT[:123_456])
    server = serve(whole)
    fetch(server, tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT
    assert server.requests == [("/file.pth", "bytes=123456-")]


def test_a_server_without_ranges_sends_all_again(serve, tmp_path):
    part_of(tmp_path / "f.pth").write_bytes(CONTENT[:123_456])
    fetch(serve(lambda handler, start: send(handler, 200, CONTENT)), tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [bytes(1000), CONTENT + b"more", bytes(len(CONTENT))])
def test_a_stale_part_is_thrown_away(serve, tmp_path, stale):
    part_of(tmp_path / "f.pth").write_bytes(stale)
    fetch(serve(whole), tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT


def test_a_whole_part_is_recognised(serve, tmp_path):
    part_of(tmp_path / "f.pth").write_bytes(CONTENT)
    fetch(serve(whole), tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_appended(serve, tmp_path):
    part_of(tmp_path / "f.pth").write_bytes(CONTENT[:1000])

    def answer(handler, start):
        if start:
            send(handler, 206, CONTENT[start + 1 :], Content_Range=f"bytes {start + 1}-{len(CONTENT) - 1}/*")
        else:
            whole(handler, start)

    fetch(serve(answer), tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT


def moved(handler, start):
    if handler.path == "/file.pth":
        send(handler, 302, b"", Location="/elsewhere.pth")
    else:
        whole(handler, start)


def test_redirects_are_followed_with_the_range(serve, tmp_path):
    part_of(tmp_path / "f.pth").write_bytes(CONTENT[:1000])
    server = serve(moved)
    fetch(server, tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT
    assert server.requests[-1] == ("/elsewhere.pth", "bytes=1000-")


def test_trouble_that_passes_is_waited_for(serve, tmp_path):
    answers = iter([503, 429])

    def answer(handler, start):
        status = next(answers, None)
        if status:
            send(handler, status, b"busy")
        else:
            whole(handler, start)

    fetch(serve(answer), tmp_path / "f.pth")
    assert (tmp_path / "f.pth").read_bytes() == CONTENT


PAGE = b"\n<!DOCTYPE html><html>Quota exceeded</html>"


@pytest.mark.parametrize(
    ("answer", "words", "requests"),
    [
        (lambda h, s: send(h, 404, b"gone"), "answered 404 Not Found", 1),
        (lambda h, s: send(h, 403, b"no"), "answered 403", 1),
        (lambda h, s: send(h, 503, b"busy"), "answered 503", 3),
        (lambda h, s: whole(h, s, bytes(9999)), "it is another file", 1),
        (lambda h, s: send(h, 200, PAGE, Content_Type="text/html; charset=utf-8"), "a web page", 1),
        (lambda h, s: send(h, 200, PAGE, Content_Type="application/octet-stream"), "a web page", 1),
        (lambda h, s: send(h, 200, b""), "broke off after 0 of 0 bytes", 3),
        (lambda h, s: send(h, 302, b"", Location="/file.pth"), "redirect", 1),
        (lambda h, s: send(h, 302, b"", Location="file:///etc/passwd"), "302", 1),
        (lambda h, s: send(h, 302, b"", Location="ftp://127.0.0.1/f.pth"), "no http", 1),
        (lambda h, s: send(h, 206, b"abc", Content_Range="bytes 5-7/9"), "another range", 3),
        (lambda h, s: send(h, 200, b"abc", 10**23), "larger than", 1),
    ],
)
def test_what_is_not_the_file_is_said_in_one_line_and_nothing_is_left(serve, tmp_path, answer, words, requests):
    server = serve(answer)
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path / "f.pth", attempts=3)
    assert words in str(caught.value)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert len(server.requests) >= requests


def test_a_truncated_file_never_gets_its_name_and_what_came_is_kept(serve, tmp_path):
    with pytest.raises(DownloadError, match=r"broke off after 1000 of 500000 bytes; 1000 bytes are kept"):
        fetch(serve(lambda h, s: send(h, 200, CONTENT[:1000], len(CONTENT))), tmp_path / "f.pth", attempts=2)
    assert [path.name for path in tmp_path.iterdir()] == [part_of(tmp_path / "f.pth").name]


def test_a_server_that_breaks_off_after_every_byte_is_left(serve, tmp_path):
    def answer(handler, start):
        assert start < 10
        broken(handler, start, step=1)

    with pytest.raises(DownloadError, match="3 bytes are kept"):
        fetch(serve(answer), tmp_path / "f.pth", attempts=3)


def test_a_server_that_drips_is_left(serve, tmp_path):
    over = threading.Event()

    def answer(handler, start):
        send(handler, 200, b"", len(CONTENT))
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                handler.wfile.write(b"x")

    with pytest.raises(DownloadError, match="less than 200 bytes a second"):
        fetch(serve(answer), tmp_path / "f.pth", timeout=0.2, attempts=1)
    over.set()


def test_a_certificate_that_is_not_trusted_is_named_at_once(tmp_path, monkeypatch):
    tries = []

    def refuse(*_, **__):
        tries.append(1)
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed"))

    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)
    with pytest.raises(DownloadError, match="certificate is not trusted here"):
        download("https://127.0.0.1/f.pth", tmp_path / "f.pth", SHA256, pause=0)
    assert len(tries) == 1


def test_a_hanging_server_is_left(serve, tmp_path):
    release = threading.Event()

    def answer(handler, start):
        send(handler, 200, CONTENT[:10], len(CONTENT))
        release.wait(30)

    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"sent nothing for 0.2 s; 10 bytes are kept"):
        fetch(serve(answer), tmp_path / "f.pth", timeout=0.2, attempts=2)
    release.set()
    assert time.monotonic() - start < 20


def test_no_server_at_all_is_said(serve, tmp_path):
    server = serve(whole)
    server.close()
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(server, tmp_path / "f.pth", attempts=2)
    server.close = lambda: None


def test_an_address_that_is_none_is_said(tmp_path):
    with pytest.raises(DownloadError, match="no address"):
        download("file.pth", tmp_path / "f.pth", SHA256)
