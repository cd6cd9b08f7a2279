"""Images over HTTP: what goes in, what comes out, and what is refused."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from support.answers import is_refusal
from support.encoded_images import encoded, header_only, mixed
from support.servers import BlockedEngine

from sr_tile.images import ImageReader, camera_files
from sr_tile.planner import Settings


@pytest.mark.parametrize(
    ("kind", "picture"),
    [
        ("png", {}),
        ("png", {"dtype": np.uint16, "channels": 1}),
        ("png", {"channels": 4}),
        ("jpeg", {"quality": 80}),
        ("tiff", {"channels": 1}),
        ("webp", {"lossless": True}),
    ],
)
def test_the_bytes_are_those_of_the_command_line(client, reference, kind, picture):
    content = encoded(kind, 90, 130, **picture)
    answer = client().post("/v1/enhance", content=content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.content == reference(content, kind)
    stages = [item.split(";")[0] for item in answer.headers["server-timing"].split(", ")]
    assert stages == ["decode", "tile", "infer", "blend", "encode", "total"]


def test_options_as_query_and_as_form_fields(client, reference):
    content, server = encoded("png", 90, 100, channels=4), client()
    expected = reference(content, "webp", Settings(tile=32, overlap=8), alpha="model", quality=60)
    options = {"format": "webp", "quality": 60, "tile_size": 32, "overlap": 8, "alpha": "model"}
    assert server.post("/v1/enhance", params=options, content=content).content == expected
    answer = server.post(
        "/v1/enhance",
        params={"quality": 5, "format": "webp"},
        data={**options, "model": "toy"},
        files={"image": ("a photo.png", content)},
    )
    assert answer.content == expected
    assert "a%20photo-x2.webp" in answer.headers["content-disposition"]
    assert server.post("/v1/enhance", params={"scale": 2}, content=content).content == reference(content)


def test_many_in_one_request(client, reference):
    good, server = encoded("png"), client()
    files = [
        ("images", (name, body))
        for name, body in (
            ("a.png", good),
            ("../b.JPG", encoded("jpeg")),
            ("a.png", good),
            ("broken.png", good[:500]),
            ("c.txt", b"no"),
        )
    ]
    answer = server.post("/v1/enhance/batch", files=files)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["a-2.png", "a.png", "b.JPG", "report.json"]
        assert archive.read("a.png") == archive.read("a-2.png") == reference(good)
        assert archive.read("b.JPG") == reference(encoded("jpeg"), "jpeg")
        report = json.loads(archive.read("report.json"))["files"]
    assert [file["status"] for file in report] == ["done", "done", "done", "failed", "failed"]
    assert report[3]["error"]["code"] == "unreadable_image"
    assert report[4]["error"]["code"] == "unknown_format"


@pytest.mark.parametrize(
    ("content", "params", "status", "code"),
    [
        (b"", {}, 415, "unknown_format"),
        (b"just text", {}, 415, "unknown_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, 415, "unknown_format"),
        (b"\0\0\0\x18ftypqt  " + bytes(100), {}, 415, "unknown_format"),
        (encoded("png")[:3000], {}, 422, "unreadable_image"),
        (encoded("jpeg")[:800], {}, 422, "unreadable_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), {}, 422, "unreadable_image"),
        (header_only(2**31 - 1, 2**31 - 1), {}, 422, "unreadable_image"),
        (encoded(), {"quality": 0}, 422, "bad_option"),
        (encoded(), {"format": "bmp"}, 422, "bad_option"),
        (encoded(), {"colour": "red"}, 422, "bad_option"),
        (encoded(), {"tile_size": 4096}, 422, "bad_option"),
        (encoded(), {"tile_size": 32, "overlap": 32}, 422, "bad_option"),
        (encoded(), {"model": "nobody"}, 422, "unknown_model"),
        (encoded(), {"model": "/etc/passwd"}, 422, "unknown_model"),
        (encoded(), {"model": "toy,nobody"}, 422, "unknown_model"),
        (encoded(), {"scale": 5}, 422, "unknown_model"),
        (encoded(), {"model": "toy,toy,toy,toy,toy"}, 422, "bad_option"),
        (encoded(), {"model": "toy,toy", "edges": "wrap"}, 422, "bad_option"),
        (encoded(), {"edges": "round"}, 422, "bad_option"),
        (encoded(), {"strength": 1.5}, 422, "bad_option"),
        (encoded(), {"keep_grain": 0.5}, 422, "bad_option"),
        (encoded(), {"precision": "bf16"}, 422, "bad_option"),
        (encoded(), {"background": "nowhere"}, 422, "bad_option"),
        (encoded(), {"model": "toy", "scale": 4}, 422, "bad_option"),
        (encoded(channels=4), {"format": "jpeg"}, 422, "cannot_store"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(client, content, params, status, code):
    server = client()
    assert is_refusal(server.post("/v1/enhance", content=content, params=params), status, code)
    assert is_refusal(server.post("/v1/enhance", files={"image": ("x.png", content)}, data=params), status, code)
    assert server.app.state.server.admission.active == 0


def test_an_option_that_is_none_is_named(client):
    answer = client().post("/v1/enhance", content=encoded(), params={"colour": "red"})
    assert answer.json()["error"]["message"] == "colour: there is no such option; /docs names them"


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "avif", "gif", "bmp", "jpeg2000"])
def test_no_message_names_a_library_or_an_option_of_the_command_line(client, kind):
    server = client()
    content, several = io.BytesIO(), io.BytesIO()
    picture = Image.effect_noise((90, 70), 50).convert("RGB")
    picture.save(content, kind)
    damaged = [content.getvalue()[:2000], content.getvalue()[:40] + bytes(3000)]
    if kind in ("png", "tiff", "webp", "gif"):
        picture.save(several, kind, save_all=True, append_images=[Image.new("RGB", (90, 70))])
        damaged.append(several.getvalue())
    refused = 0
    for number, content in enumerate(damaged):
        answer = server.post("/v1/enhance", files={"image": (f"{number}.x", content)})
        refused += answer.status_code == 422
        for word in ("vips", "heif", "libpng", "identify", "source", "pillow", "--"):
            assert word not in answer.text.lower()
    assert refused


def test_formats_whose_reader_is_not_installed_are_not_offered(client, monkeypatch):
    server = client()
    assert "heic" in server.get("/v1/models").json()["received"]
    monkeypatch.setitem(camera_files._READERS, "heic", "no_such_module")
    assert "heic" not in server.get("/v1/models").json()["received"]
    answer = server.post("/v1/enhance", content=b"\0\0\0\x18ftypheic" + bytes(100))
    assert is_refusal(answer, 415, "unknown_format")
    assert "pip" not in answer.text
    assert "HEIC" in answer.text


def test_a_message_calls_options_as_requests_do(client):
    message = (
        client().post("/v1/enhance", content=encoded(channels=4), params={"format": "jpeg"}).json()["error"]["message"]
    )
    assert "give background white" in message


def test_forms_that_are_none(client):
    server, form = client(), {"Content-Type": "multipart/form-data; boundary=b"}
    assert is_refusal(server.post("/v1/enhance", content=b"nonsense", headers=form), 400, "bad_form")
    assert is_refusal(
        server.post("/v1/enhance", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400, "bad_form"
    )
    two = [("image", ("a.png", encoded())), ("image", ("b.png", encoded()))]
    assert is_refusal(server.post("/v1/enhance", files=two), 400, "bad_form")
    assert is_refusal(
        server.post("/v1/enhance", data={"quality": "5"}, files={"other": (None, "text")}), 400, "no_file"
    )
    assert is_refusal(server.post("/v1/enhance/batch", content=encoded()), 400, "bad_form")
    assert is_refusal(client(files=1).post("/v1/enhance/batch", files=two), 400, "bad_form")
    assert is_refusal(server.get("/nothing"), 404, "not_found")
    assert is_refusal(server.get("/v1/enhance"), 405, "wrong_method")


def test_sizes_are_bounded(client):
    content = encoded(height=50, width=70)
    assert is_refusal(client(bytes=len(content) - 1).post("/v1/enhance", content=content), 413, "too_large")
    streamed = (content[start : start + 100] for start in range(0, len(content), 100))
    assert is_refusal(client(bytes=len(content) - 1).post("/v1/enhance", content=streamed), 413, "too_large")
    files = {"image": ("a.png", content)}
    assert is_refusal(client(bytes=len(content) - 1).post("/v1/enhance", files=files), 413, "too_large")
    assert client(bytes=len(content)).post("/v1/enhance", content=content).status_code == 200
    assert is_refusal(client(pixels=3499).post("/v1/enhance", content=content), 413, "too_large")
    assert is_refusal(client(side=69).post("/v1/enhance", content=content), 413, "too_large")
    assert client(pixels=3500, side=70).post("/v1/enhance", content=content).status_code == 200


def test_a_bomb_is_refused_by_its_header(client, monkeypatch):
    monkeypatch.setattr(ImageReader, "read_rows", lambda *_: pytest.fail("decoded"))
    bomb = header_only(60_000, 60_000)
    assert len(bomb) < 200
    assert is_refusal(client().post("/v1/enhance", content=bomb), 413, "too_large")


def test_a_model_that_runs_in_fewer_bits_cannot_be_asked_for_float32(client):
    engine = BlockedEngine()
    engine.precision = "bf16"
    server = client({"toy": engine})
    assert is_refusal(server.post("/v1/enhance", content=encoded(), params={"precision": "fp32"}), 422, "bad_option")


def test_mixed_pictures_one_after_another(client, reference):
    server = client()
    for kind, content in mixed(12):
        assert server.post("/v1/enhance", content=content).content == reference(content, kind), kind
