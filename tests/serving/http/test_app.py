"""What the server says of itself and of its models."""

import json
import tempfile
import time
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient
from support.answers import is_refusal
from support.encoded_images import encoded
from support.servers import BlockedEngine, make_host, until

from sr_tile.errors import DeviceError
from sr_tile.images.formats import FILES
from sr_tile.models import zoo
from sr_tile.serving.http.app import create_app
from sr_tile.serving.http.options import Options


def test_models_that_cannot_be_loaded_leave_it_unready(tmp_path):
    told = []
    app = create_app(make_host(tmp_path / "none.onnx"), on_failure=told.append)
    with TestClient(app) as server:
        assert until(lambda: told)
        assert "none.onnx" in str(told[0])
        assert is_refusal(server.get("/readyz"), 503, "loading")
        assert is_refusal(server.get("/v1/models"), 503, "loading")
        assert is_refusal(server.post("/v1/enhance", content=encoded()), 503, "loading")


def test_a_server_without_a_device_is_not_ready_until_one_is_there_again(client, monkeypatch):
    server = client()
    (model,) = server.app.state.server.pool.models.values()
    (slot,) = {id(slot): slot for slot in model.shared._runner.threads}.values()
    slot.lose(DeviceError("toy: fell off the bus"))
    assert is_refusal(server.get("/readyz"), 503, "no_device")
    assert server.post("/v1/enhance", content=encoded()).status_code >= 500
    now = time.monotonic() + 1000
    monkeypatch.setattr("sr_tile.engines.device_runner.time", SimpleNamespace(monotonic=lambda: now))
    assert server.get("/readyz").status_code == 200
    assert server.post("/v1/enhance", content=encoded()).status_code == 200


def test_the_bundled_models_say_what_they_are_for(client):
    (model,) = client({"denoise": BlockedEngine()}).get("/v1/models").json()["models"]
    assert model["purpose"] == zoo.PURPOSE["denoise"]


@pytest.mark.slow
def test_the_document_is_true(client):
    server = client()
    document = server.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/models",
        "/v1/enhance",
        "/v1/enhance/batch",
        "/v1/jobs",
        "/v1/jobs/{job}",
        "/v1/jobs/{job}/result",
        "/v1/jobs/{job}/view/{side}/{level}/{column}/{row}",
        "/v1/results",
    }
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert server.request(method, path.replace("{", "").replace("}", "")).status_code != 405
            for status, answer in route["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    enhance = document["paths"]["/v1/enhance"]["post"]
    assert {item["name"] for item in enhance["parameters"]} == set(Options.model_fields)
    form = enhance["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"image", *Options.model_fields}
    assert set(document["components"]["schemas"]["Problem"]["properties"]) == {"error"}
    assert "HTTPValidationError" not in json.dumps(document)
    kinds = set(enhance["responses"]["200"]["content"])
    for kind, content in [("png", encoded()), ("jpeg", encoded("jpeg"))]:
        assert server.post("/v1/enhance", content=content, params={"format": kind}).headers["content-type"] in kinds


def test_figures(client):
    server = client()
    server.post("/v1/enhance", content=encoded("png", 200, 200))
    server.post("/v1/enhance", content=b"text")
    lines = dict(line.rsplit(" ", 1) for line in server.get("/metrics").text.splitlines() if not line.startswith("#"))
    tiles = float(lines["sr_tile_tiles_total"])
    assert tiles > 1
    assert lines['sr_tile_images_total{outcome="done"}'] == "1.0"
    assert lines['sr_tile_images_total{outcome="unknown_format"}'] == "1.0"
    assert float(lines["sr_tile_pixels_total"]) == 200 * 200
    assert float(lines["sr_tile_batch_rows_sum"]) == float(lines["sr_tile_batch_wait_seconds_count"]) == tiles
    assert float(lines['sr_tile_stage_seconds_total{stage="infer"}']) > 0
    assert float(lines["sr_tile_images_in_flight"]) == float(lines["sr_tile_queue_rows"]) == 0
    assert float(lines["sr_tile_memory_bytes"]) > 2**20


def test_models_say_what_they_are(client):
    content = client(pixels=1234).get("/v1/models").json()
    (model,) = content["models"]
    assert (model["name"], model["scale"], model["default"], model["device"]) == ("toy", 2, True, "cpu")
    assert content["limits"]["pixels"] == 1234
    assert content["received"]["jpeg"] == [*FILES["jpeg"].suffixes]
    assert "tga" not in content["received"]  # nothing marks it: it cannot be told from text
    assert str(tempfile.gettempdir()) not in json.dumps(content)
