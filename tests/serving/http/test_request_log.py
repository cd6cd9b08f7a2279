"""One line a request, whatever becomes of it."""

import json
import sys

import pytest
from fastapi.testclient import TestClient
from support.encoded_images import encoded
from support.servers import make_host, until

from sr_tile.cli import main as cli
from sr_tile.serving.http.app import create_app
from sr_tile.serving.http.request_log import Request, print_request


@pytest.fixture
def told(model):
    """A client of a server, and what the server said of its requests."""
    requests = []
    app = create_app(make_host(model), token="0123456789abcdef", on_request=requests.append)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert until(lambda: client.get("/readyz").status_code == 200)
        requests.clear()
        yield client, requests, app


def test_each_request_is_told_once_with_what_went_in_and_out(told):
    client, requests, app = told
    content, headers = encoded(), {"Authorization": "Bearer 0123456789abcdef"}

    @app.get("/v1/defect")
    async def defect():
        raise RuntimeError("a defect")

    answers = [
        client.post("/v1/enhance?quality=90", content=content, headers=headers),
        client.post("/v1/enhance", content=content),
        client.get("/none", headers=headers),
        client.get("/v1/defect", headers=headers),
        client.get("/healthz"),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 500, 200]
    assert [request.status for request in requests] == [200, 401, 404, 500, 200]
    assert [request.path for request in requests] == ["/v1/enhance", "/v1/enhance", "/none", "/v1/defect", "/healthz"]
    first, last = requests[0], requests[-1]
    assert (first.method, first.received, first.sent) == ("POST", len(content), len(answers[0].content))
    assert (last.method, last.received, last.sent) == ("GET", 0, len(answers[-1].content))
    assert "0123456789abcdef" not in "".join(map(str, requests))


def test_a_line_for_people_and_one_for_programs(capsys):
    request = Request("2026-01-02T03:04:05.678Z", "127.0.0.1", "GET", "/a\n\x1b[31mb", None, 0, 12, 0.25)
    print_request(request)
    print_request(request, "json")
    plain, structured = capsys.readouterr().err.splitlines()
    assert plain == r"2026-01-02T03:04:05.678Z 127.0.0.1 GET /a\n\x1b[31mb gone in=0 out=12 0.250s"
    assert json.loads(structured) == vars(request)


def test_a_closed_stderr_stops_nothing(monkeypatch, tmp_path):
    with (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
    print_request(Request("", "", "GET", "/", 200, 0, 0, 0.0))


@pytest.mark.parametrize(("arguments", "said"), [((), True), (("-q",), False)])
def test_quiet_leaves_the_lines_out(monkeypatch, arguments, said):
    given = {}
    monkeypatch.setattr("sr_tile.serving.http.uvicorn_server.serve", lambda *_, **options: given.update(options))
    monkeypatch.setattr(sys, "argv", ["sr-tile", "serve", *arguments])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert (given["on_request"] is not None) == said
