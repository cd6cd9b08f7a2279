"""A real server on a socket: slow, rude and many clients, and its end."""

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from support.encoded_images import encoded, mixed
from support.servers import BlockedEngine, until

from sr_tile.cli import main as cli
from sr_tile.serving.http.idle_timeout import IdleTimeout


def connect(port, sent=b"", timeout=30):
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.sendall(sent)
    return connection


def upload(path, length):
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()


def read_all(connection):
    """What comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def spooled(server):
    """Folders of requests that are under way."""
    return server.state.folders.existing()


def idle(server):
    return server.state.admission.active == 0 and not spooled(server)


def test_an_answer_while_the_engine_is_held_up_and_limits_of_what_waits(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, per_client=3, waiting=3, running=2)
    engine.block()
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=server.url, timeout=60) as client:
        first = [pool.submit(httpx.post, f"{server.url}/v1/enhance", content=encoded(), timeout=60) for _ in range(3)]
        assert engine.entered.wait(30)
        assert until(lambda: server.state.admission.active == 3)
        for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/"):
            assert client.get(path).status_code == 200
        refused = client.post("/v1/enhance", content=encoded())
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post("/v1/jobs", content=encoded()).status_code == 429
        assert client.post("/v1/enhance/batch", files={"a": ("a.png", encoded())}).status_code == 429
        engine.open.set()
        assert [answer.result().status_code for answer in first] == [200] * 3
        assert client.post("/v1/enhance", content=encoded()).status_code == 200
    assert until(lambda: idle(server))


def test_a_full_server_says_when_to_come_back(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, per_client=9, waiting=1)
    engine.block()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{server.url}/v1/enhance", content=encoded(), timeout=60)
        assert engine.entered.wait(30)
        refused = httpx.post(f"{server.url}/v1/enhance", content=os.urandom(2_000_000))  # larger than any buffer
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert int(refused.headers["retry-after"]) >= 1
        engine.open.set()
        assert first.result().status_code == 200


@pytest.mark.slow
def test_an_upload_that_stops_is_told_so(live):
    server = live(idle_seconds=0.3)
    content = encoded()
    for path in ("/v1/enhance", "/v1/jobs"):
        with connect(server.port, upload(path, len(content)) + content[:100]) as connection:
            answer = read_all_of_answer(connection)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"too_slow" in answer
    assert until(lambda: idle(server))


def test_a_transport_of_another_event_loop_is_cut_off_too():
    class Transport:  # uvloop's are no asyncio.WriteTransport
        def __init__(self):
            self.aborted = asyncio.Event()

        def abort(self):
            self.aborted.set()

    async def wait():
        transport = Transport()
        IdleTimeout(asyncio.Protocol(), 0.01).connection_made(transport)
        await asyncio.wait_for(transport.aborted.wait(), 30)

    asyncio.run(wait())


def read_healthy(connection):
    answer = b""
    while b'{"status":"ok"}' not in answer:
        answer += connection.recv(2**16)


def read_all_of_answer(connection):
    answer = b""
    while b"}}" not in answer and (part := connection.recv(2**16)):
        answer += part
    return answer


def test_an_upload_that_trickles_is_told_so(live):
    server = live(idle_seconds=0.2, slowest=10_000)
    with connect(server.port, upload("/v1/enhance", 10_000)) as connection:
        connection.settimeout(0.05)
        answer = b""
        for _ in range(200):  # never a long pause, yet too slow on the whole
            connection.sendall(b"x")
            try:
                answer += connection.recv(2**16)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")
    assert until(lambda: idle(server))


def test_a_connection_without_a_request_is_closed(live):
    server = live(idle_seconds=0.3)
    for sent in (b"", b"GET /healthz HT"):
        with connect(server.port, sent) as connection:
            assert read_all(connection) == b""


@pytest.mark.slow
def test_a_second_request_that_is_begun_and_not_finished_is_cut_off(live):
    server = live(idle_seconds=0.3)
    whole, part = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nX: "
    with ThreadPoolExecutor(1) as pool:
        for sent in (part, whole[:1]):
            with connect(server.port, whole) as connection:
                read_healthy(connection)
                connection.sendall(sent)
                rest = pool.submit(read_all, connection)
                assert rest.result(20) == b""
        with connect(server.port, whole) as connection:  # bytes alone earn no more time
            read_healthy(connection)
            rest = pool.submit(read_all, connection)
            with contextlib.suppress(OSError):
                for _ in range(100):
                    connection.sendall(b"X")
                    time.sleep(0.05)
            assert rest.done()
            assert rest.result() == b""
        refused = upload("/v1/enhance?quality=0", 10**6)  # answered before its body is there, which then trickles
        with connect(server.port, refused) as connection:
            rest = pool.submit(read_all, connection)
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(b"X")
                    time.sleep(0.05)
            assert rest.done()
            assert b"422" in rest.result()
    with connect(server.port, whole + whole) as connection:
        answer = b""
        while answer.count(b'{"status":"ok"}') < 2:
            answer += connection.recv(2**16)


def test_work_is_not_cut_off_by_the_idle_timeout(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, idle_seconds=0.2)
    engine.block()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{server.url}/v1/enhance", content=encoded(), timeout=60)
        assert engine.entered.wait(30)
        time.sleep(0.6)
        engine.open.set()
        assert answer.result().status_code == 200


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off(live, model):
    server = live(idle_seconds=0.5)
    content = encoded("tiff", 1200, 1600)  # noise: megabytes come back, more than sockets buffer
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    with connection:
        connection.settimeout(60)
        connection.sendall(upload("/v1/enhance?format=png", len(content)) + content)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert until(lambda: idle(server))


def test_a_client_that_goes_away_leaves_nothing(live):
    engine = BlockedEngine()
    server = live({"toy": engine})
    content = encoded("png", 300, 300)
    with connect(server.port, upload("/v1/enhance", len(content)) + content[:1000]):
        assert until(lambda: server.state.admission.active == 1)
    assert until(lambda: idle(server))
    engine.block()
    with connect(server.port, upload("/v1/enhance", len(content)) + content):
        assert engine.entered.wait(30)
    (shared,) = (model.shared for model in server.state.pool.models.values())
    assert until(lambda: shared.clients == 0)  # before the engine is free again
    calls = len(engine.shapes)
    engine.open.set()
    assert until(lambda: idle(server))
    assert len(engine.shapes) == calls  # the call under way ended, and there was no other
    assert httpx.post(f"{server.url}/v1/enhance", content=encoded()).status_code == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_sends_no_more_gets_its_answers(live, version):
    """Half-closed, at once and while the engine works; of two requests one behind the other both."""
    engine = BlockedEngine()
    server = live({"toy": engine})
    content = encoded("png", 30, 30)
    ask = upload("/v1/enhance", len(content)).replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + content
    engine.block()
    with connect(server.port, ask) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert engine.entered.wait(30)
        time.sleep(1.2)  # for interim answers
        assert server.state.admission.active == 1
        engine.open.set()
        answer = read_all(connection)
    assert b" 200 OK\r\n" in answer
    assert (b"100 Continue" in answer) == (version == "1.1")
    assert answer.rstrip().endswith(b"IEND\xaeB`\x82")
    if version == "1.1":
        with connect(server.port, ask + b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as connection:
            connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        assert (answer.count(b" 200 OK\r\n"), answer.endswith(b'{"status":"ok"}')) == (2, True)
    with connect(server.port, b"GET /hea") as connection:
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in read_all(connection)
    assert until(lambda: idle(server))


def test_broken_requests_do_no_harm(live):
    server = live()
    for sent in (
        b"\x00\xff" * 50 + b"\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ):
        with connect(server.port, sent) as connection:
            connection.settimeout(10)
            assert b"Traceback" not in connection.recv(2**16)
    with connect(server.port, b"GET / HTTP/1.1\r\nHost: [\r\n\r\n") as connection:
        assert connection.recv(2**16).startswith(b"HTTP/1.1 400")
    chunked = b"POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    with connect(server.port, chunked) as connection:
        assert b"Traceback" not in connection.recv(2**16)
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert until(lambda: idle(server))


def start(model, *arguments):
    command = [sys.executable, "-m", "sr_tile", "serve", "-q", "--port", "0", "--model", model, *arguments]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    port = int(re.search(r":(\d+)/", line)[1])
    assert until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200)
    return process, port


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nope", "damaged.onnx", "net.pth"])
def test_a_model_that_cannot_be_served_is_all_that_is_said(tmp_path, name):
    for file in ("damaged.onnx", "net.pth"):
        (tmp_path / file).write_bytes(b"no model")
    command = [sys.executable, "-m", "sr_tile", "serve", "--port", "0", "--model", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == (2 if name == "nope" else 1)
    *before, line = done.stderr.splitlines()
    assert re.match(r"sr-tile: error: (model|checkpoint) ", line)
    assert name in line
    assert before == (
        ["sr-tile: warning: net.pth: exporting to ONNX once; the result is kept in the cache"] if "pth" in name else []
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_end_waits_for_what_is_under_way(model, reference, number, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process, port = start(model, "--tile-size", 64, "--overlap", 16)
    content = encoded("png", 200, 200)
    with connect(port, upload("/v1/enhance", len(content)) + content[:1000]) as connection:
        assert until(lambda: "in_flight 1" in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        process.send_signal(number)
        assert until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503)
        refused = httpx.post(f"http://127.0.0.1:{port}/v1/enhance", content=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert process.poll() is None
        connection.sendall(content[1000:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert answer.read() == reference(content)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    assert list(tmp_path.glob("sr-tile-requests-*")) == []


def test_a_signal_that_comes_before_the_server_listens_for_it_leaves_no_spool(tmp_path):
    code = (
        "import os, signal, time\nfrom sr_tile.system import stopping\nstopping.install()\n"
        "from sr_tile.serving.http.request_folders import RequestFolders\n"
        "folders = RequestFolders()\n(folders.new() / 'upload').write_text('x')\n"
        "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "sr-tile: stopped by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_end_does_not_wait_for_ever(model):
    process, port = start(model, "--shutdown-timeout", 0.2)
    with connect(port, upload("/v1/enhance", 1000) + b"x"):
        assert until(lambda: "in_flight 1" in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_two_hundred_at_the_same_time_each_as_the_command_line_writes_it(live, model, tmp_path, monkeypatch):
    pictures = list(mixed(200))
    (tmp_path / "in").mkdir()
    for number, (kind, content) in enumerate(pictures):
        (tmp_path / "in" / f"{number:03}.{kind}").write_bytes(content)
    arguments = ["enhance", tmp_path / "in", tmp_path / "out", "--model", model, "--tile-size", 64, "--overlap", 16]
    monkeypatch.setattr(sys, "argv", ["sr-tile", *map(str, arguments)])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    server = live(per_client=200, waiting=200)

    def send(number):
        return httpx.post(f"{server.url}/v1/enhance", content=pictures[number][1], timeout=300)

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(send, np.random.default_rng(0).permutation(200)))
    order = np.random.default_rng(0).permutation(200)
    for number, answer in zip(order, answers, strict=True):
        expected = tmp_path / "out" / f"{number:03}.{pictures[number][0]}"
        assert answer.status_code == 200, answer.text
        assert answer.content == expected.read_bytes(), expected.name
    assert until(lambda: idle(server))
