"""The WebSocket: many images on one connection."""

import msgpack
import pytest
from support.encoded_images import encoded, mixed
from support.servers import BlockedEngine, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


class Stream:
    """A client."""

    def __init__(self, server, **options):
        self.context = connect(f"{server.url.replace('http', 'ws')}/v1/stream", max_size=None, **options)
        self.socket = self.context.__enter__()
        self.hello = self.receive()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def send(self, identity, data=b"", *, kind="image", **more):
        self.socket.send(msgpack.packb({"type": kind, "id": identity, "data": data, **more}))

    def receive(self):
        return msgpack.unpackb(self.socket.recv(timeout=60))

    def ask(self, identity, data, **more):
        self.send(identity, data, **more)
        return self.receive()

    def results(self, count):
        """(results by id, errors by id, progress by id), once `count` images have ended."""
        parts, results, errors, progress = {}, {}, {}, {}
        while len(results) + len(errors) < count:
            message = self.receive()
            identity = message["id"]
            if message["type"] == "progress":
                progress.setdefault(identity, []).append(message)
            elif message["type"] == "error":
                errors[identity] = message
            else:
                parts[identity] = parts.get(identity, b"") + message["data"]
                if not message["more"]:
                    results[identity] = {**message, "data": parts[identity]}
        return results, errors, progress


def test_many_images_each_as_the_command_line_writes_it(live, reference):
    pictures = list(mixed(15))
    with Stream(live()) as stream:
        assert stream.hello["type"] == "hello"
        assert stream.hello["window"] >= len(pictures)
        for number, (_, content) in enumerate(pictures):
            middle = len(content) // 2
            stream.send(number, content[:middle], more=True)
            stream.send(number, content[middle:])
        results, errors, _ = stream.results(len(pictures))
    assert not errors
    for number, (kind, content) in enumerate(pictures):
        assert results[number]["format"] == kind
        assert results[number]["data"] == reference(content, kind)
        assert set(results[number]["timing"]) == {"decode", "tile", "infer", "blend", "encode"}


def test_options_names_and_large_results_in_parts(live, reference):
    content = encoded("jpeg", 500, 700)
    with Stream(live()) as stream:
        stream.send("a", content, options={"format": "png"}, name="photo.jpg")
        results, _, _ = stream.results(1)
        assert results["a"]["data"] == reference(content, "png")
        assert len(results["a"]["data"]) > 2**20


def test_errors_are_of_one_image_only(live, reference):
    good = encoded()
    with Stream(live(bytes=20_000)) as stream:
        stream.send(1, good[:3000])
        stream.send(2, b"text", name="/home/me/notes.txt")
        stream.send(3, good, options={"quality": 0})
        stream.send(4, bytes(30_000))
        stream.send(5, good)
        results, errors, _ = stream.results(5)
        assert results[5]["data"] == reference(good)
        found = {identity: (error["status"], error["code"]) for identity, error in errors.items()}
        assert found == {
            1: (422, "unreadable_image"),
            2: (415, "unknown_format"),
            3: (422, "bad_option"),
            4: (413, "too_large"),
        }
        assert errors[2]["message"].startswith("notes.txt: ")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        msgpack.packb([1, 2]),
        msgpack.packb({"type": "fly", "id": 1}),
        msgpack.packb({"type": "image"}),
        msgpack.packb({"type": "image", "id": [1], "data": b"x"}),
        msgpack.packb({"type": "image", "id": 1, "data": "text"}),
        msgpack.packb({"type": "image", "id": 1, "options": {1: 2}}),
        msgpack.packb({"type": "image", "id": "x" * 1000}),
    ],
)
def test_messages_that_are_none(live, message):
    server = live()
    with Stream(server) as stream:
        stream.socket.send(message)
        answer = stream.receive()
        assert (answer["type"], answer["status"], answer["code"]) == ("error", 400, "bad_message")
        stream.send(7, encoded())
        assert 7 in stream.results(1)[0]
    assert until(lambda: server.state.admission.active == 0)


def test_an_image_can_be_cancelled_at_any_time(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, running=1)
    engine.block()
    with Stream(server) as stream:
        stream.send("half", encoded(), more=True)
        stream.send("half", kind="cancel")
        assert stream.results(1)[1]["half"]["code"] == "cancelled"
        stream.send("now", encoded("png", 200, 200))
        assert engine.entered.wait(30)
        stream.send("later", encoded())
        stream.send("now", kind="cancel")
        stream.send("nobody", kind="cancel")
        stream.socket.send(b"")  # its answer says that what came before was read
        assert stream.receive()["code"] == "bad_message"
        engine.open.set()
        results, errors, _ = stream.results(2)
        assert set(results) == {"later"}
        assert errors["now"]["code"] == "cancelled"
    assert until(lambda: server.state.admission.active == 0)


def test_the_same_id_twice_and_more_than_the_window(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, per_client=2)
    engine.block()
    with Stream(server) as stream:
        assert stream.hello["window"] == 2
        stream.send(1, encoded())
        assert engine.entered.wait(30)
        stream.send(1, encoded())
        assert stream.receive()["code"] == "bad_message"
        stream.send(2, encoded())
        stream.send(3, encoded())
        refused = stream.receive()
        assert (refused["id"], refused["status"], refused["code"]) == (3, 429, "too_many")
        assert refused["retry_after"] >= 1
        engine.open.set()
        assert set(stream.results(2)[0]) == {1, 2}


def test_progress_in_tiles(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, running=1)
    calls = iter(range(10**6))
    engine.block()

    def one_by_one(batch):
        if next(calls) == 3:
            assert engine.open.wait(60)
        return batch

    engine.answer = one_by_one
    with Stream(server) as stream:
        stream.send(1, encoded("png", 400, 400))
        first = stream.receive()
        assert first["type"] == "progress"
        assert 0 < first["done"] < first["total"]
        engine.open.set()
        assert set(stream.results(1)[0]) == {1}


def test_a_connection_that_ends_takes_its_images_along(live):
    engine = BlockedEngine()
    server = live({"toy": engine}, running=1)
    engine.block()
    stream = Stream(server)
    stream.send("half", encoded(), more=True)
    for number in range(5):
        stream.send(number, encoded("png", 200, 200))
    assert engine.entered.wait(30)
    assert until(lambda: server.state.admission.active == 6)
    stream.socket.close()
    engine.open.set()
    assert until(lambda: server.state.admission.active == 0)


def test_an_upload_that_stops_is_given_up(live):
    server = live(idle_seconds=0.3)
    with Stream(server) as stream:
        stream.send(1, encoded(), more=True)
        answer = stream.receive()
        assert (answer["id"], answer["status"]) == (1, 408)
        stream.send(2, encoded())
        assert 2 in stream.results(1)[0]


def test_token_and_site(live):
    server = live(token="a secret of some length")
    with pytest.raises(InvalidStatus, match="401"):
        Stream(server)
    header = {"Authorization": "Bearer a secret of some length"}
    with Stream(server, additional_headers=header) as stream:
        stream.send(1, encoded())
        assert 1 in stream.results(1)[0]
    with pytest.raises(InvalidStatus, match="403"):
        Stream(server, additional_headers=header, origin="http://evil.example")
    with pytest.raises(InvalidStatus, match="403"):
        Stream(live(), origin="http://evil.example")


def test_a_message_that_is_too_large_ends_the_connection(live):
    server = live()
    with Stream(server) as stream, pytest.raises(ConnectionClosed):
        stream.ask(1, bytes(2**24 + 2**17), more=True)
    assert until(lambda: server.state.admission.active == 0)
