"""HTTP: what goes in, what comes out, and what is refused."""

import io
import json
import shutil
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.encoded_images import encoded, header_only, mixed
from support.servers import BlockedEngine, make_host, until

from sr_tile.errors import DeviceError
from sr_tile.images import ImageReader, camera_files
from sr_tile.images.formats import FILES
from sr_tile.models import zoo
from sr_tile.planner import Settings
from sr_tile.serving.http.app import create_app
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.limits import Admission, Limits
from sr_tile.serving.http.options import Options
from sr_tile.serving.http.request_folders import bytes_on_disk


def is_refusal(answer, status, code):
    """A refusal in one line, which names no folder of this machine."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message"}
    assert error["message"]
    for secret in ("Traceback", tempfile.gettempdir(), "\n", "/source"):
        assert secret not in error["message"]
    return True


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


def test_the_right_token_name_and_site(client):
    locked = client(token="a secret of some length")
    for path in ("/", "/page/main.js", "/healthz", "/readyz"):
        assert locked.get(path).status_code == 200
    for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/jobs/x"):
        assert is_refusal(locked.get(path), 401, "no_token")
        assert is_refusal(locked.get(path, headers={"Authorization": "Bearer wrong"}), 401, "no_token")
        assert is_refusal(locked.get(path, headers={"Authorization": "Basic a secret of some length"}), 401, "no_token")
        answer = locked.get(path, headers={"Authorization": "Bearer a secret of some length"})
        assert answer.status_code == (404 if "jobs" in path else 200)
    assert locked.get("/v1/models").headers["www-authenticate"] == "Bearer"
    named = client(hosts={"testserver"})
    assert named.get("/").status_code == 200
    for host in ("evil.example", "testserver.evil.example", "testserver@evil.example", ""):
        assert is_refusal(named.get("/", headers={"Host": host}), 403, "wrong_host")
    for host in ("[", "[::1", "testserver:port", "a]b"):
        assert is_refusal(named.get("/", headers={"Host": host}), 400, "bad_host")
    assert is_refusal(named.get("/v1/models", headers={"Origin": "http://["}), 403, "wrong_origin")
    assert named.get("/v1/models", headers={"Origin": "http://testserver"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://testserver:81", "http://testserver.evil.example"):
        assert is_refusal(named.post("/v1/enhance", headers={"Origin": origin}, content=b""), 403, "wrong_origin")


def test_every_answer_keeps_browsers_careful(client):
    server = client()
    for path in ("/", "/page/main.js", "/v1/models", "/nothing"):
        headers = server.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_a_defect_says_nothing_of_the_inside(client, monkeypatch):
    server = client()
    monkeypatch.setattr("sr_tile.serving.http.model_pool.ModelPool.check", lambda *_: 1 / 0)
    assert is_refusal(server.post("/v1/enhance", content=encoded()), 500, "internal")
    monkeypatch.setattr("sr_tile.serving.http.request_folders.RequestFolders.new", lambda *_: 1 / 0)
    assert is_refusal(server.post("/v1/enhance", content=encoded()), 500, "internal")
    assert server.app.state.server.admission.active == 0


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


def test_jobs(client, reference):
    content, server = encoded("png", 700, 900), client()
    job = server.post("/v1/jobs", files={"image": ("p.png", content)}).json()
    assert until(lambda: server.get(f"/v1/jobs/{job['id']}").json()["view"])
    state = server.get(f"/v1/jobs/{job['id']}").json()
    assert state["state"] == "done"
    assert state["tiles"] == state["tiles_done"] > 1
    assert (state["result"]["before"], state["result"]["after"]) == ([700, 900], [1400, 1800])
    result = server.get(f"/v1/jobs/{job['id']}/result")
    assert result.content == reference(content)
    assert state["result"]["bytes"] == len(result.content)
    for side, factor in (("before", 1), ("after", 2)):
        view = state["view"][side]
        assert (view["height"], view["width"]) == (700 * factor, 900 * factor)
        for level in range(view["levels"]):
            assert server.get(f"/v1/jobs/{job['id']}/view/{side}/{level}/0/0").headers["content-type"] == "image/jpeg"
        assert is_refusal(server.get(f"/v1/jobs/{job['id']}/view/{side}/{view['levels']}/0/0"), 404, "no_tile")
    assert is_refusal(server.get(f"/v1/jobs/{job['id']}/view/before/0/-1/0"), 404, "no_tile")
    assert is_refusal(server.get(f"/v1/jobs/{job['id']}/view/before/0/{10**300}/0"), 404, "no_tile")
    assert is_refusal(server.get(f"/v1/jobs/{job['id']}/view/aside/0/0/0"), 422, "bad_option")
    folder = server.app.state.server.job_store.find(job["id"]).task.folder
    assert server.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert is_refusal(server.get(f"/v1/jobs/{job['id']}"), 404, "unknown_job")
    assert not folder.exists()


def test_a_chain_counts_the_tiles_of_all_its_models_and_can_be_given_up(client):
    first, second = BlockedEngine(), BlockedEngine()
    server = client({"first": first, "second": second})
    job = server.post("/v1/jobs", params={"model": "first,second"}, content=encoded("png", 200, 200)).json()["id"]
    assert until(lambda: server.get(f"/v1/jobs/{job}").json()["result"])
    state = server.get(f"/v1/jobs/{job}").json()
    assert (
        state["tiles"] == state["tiles_done"] == sum(shape[0] for engine in (first, second) for shape in engine.shapes)
    )
    second.block()
    job = server.post("/v1/jobs", params={"model": "first,second"}, content=encoded("png", 200, 200)).json()["id"]
    assert second.entered.wait(30)
    server.delete(f"/v1/jobs/{job}")
    second.open.set()
    assert until(lambda: server.app.state.server.admission.active == 0)
    again = {"params": {"model": "first,second"}, "content": encoded("png", 50, 50)}
    assert server.post("/v1/enhance", **again).status_code == 200


def test_one_archive_of_the_results_of_several_jobs(client, reference):
    server = client()
    contents = [encoded(seed=1), encoded(seed=2)]
    jobs = [server.post("/v1/jobs", files={"image": ("p.png", content)}).json()["id"] for content in contents]
    jobs.append("forgotten")
    assert until(lambda: all(server.get(f"/v1/jobs/{job}").json().get("result") for job in jobs[:2]))
    for _ in range(2):  # it takes nothing away
        answer = server.get("/v1/results", params={"job": jobs})
        assert answer.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.namelist() == ["p-x2.png", "p-x2-2.png", "report.json"]
            assert archive.read("p-x2.png") == reference(contents[0])
            assert archive.read("p-x2-2.png") == reference(contents[1])
            report = json.loads(archive.read("report.json"))["files"]
        assert [item["status"] for item in report] == ["done", "done", "failed"]
        assert report[2]["error"]["code"] == "unknown_job"
    assert is_refusal(server.get("/v1/results"), 422, "bad_option")
    assert until(lambda: server.app.state.server.admission.active == 0)


def test_a_model_that_runs_in_fewer_bits_cannot_be_asked_for_float32(client):
    engine = BlockedEngine()
    engine.precision = "bf16"
    server = client({"toy": engine})
    assert is_refusal(server.post("/v1/enhance", content=encoded(), params={"precision": "fp32"}), 422, "bad_option")


def test_the_bundled_models_say_what_they_are_for(client):
    (model,) = client({"denoise": BlockedEngine()}).get("/v1/models").json()["models"]
    assert model["purpose"] == zoo.PURPOSE["denoise"]


def test_jobs_that_fail_and_jobs_that_are_given_up(client):
    engine = BlockedEngine()
    server = client({"toy": engine})
    engine.block()
    job_store, admission = server.app.state.server.job_store, server.app.state.server.admission
    assert is_refusal(server.post("/v1/jobs", content=b"text"), 415, "unknown_format")
    broken = server.post("/v1/jobs", content=encoded()[:3000]).json()["id"]
    assert until(lambda: server.get(f"/v1/jobs/{broken}").json()["state"] == "failed")
    assert server.get(f"/v1/jobs/{broken}").json()["error"]["code"] == "unreadable_image"
    job = server.post("/v1/jobs", content=encoded("png", 300, 300)).json()["id"]
    assert engine.entered.wait(30)
    assert is_refusal(server.get(f"/v1/jobs/{job}/result"), 409, "not_done")
    assert is_refusal(server.get(f"/v1/jobs/{job}/view/after/0/0/0"), 404, "no_view")
    assert admission.active == 1
    folder = job_store.find(job).task.folder
    assert server.delete(f"/v1/jobs/{job}").status_code == 204
    engine.open.set()
    assert until(lambda: admission.active == 0 and not folder.exists())


def test_a_place_is_given_back_once_however_often_a_waiting_job_is_deleted(client):
    engine = BlockedEngine()
    server = client({"toy": engine}, running=1, per_client=4)
    admission = server.app.state.server.admission
    engine.block()
    jobs = [server.post("/v1/jobs", content=encoded()).json()["id"] for _ in range(4)]
    assert engine.entered.wait(30)
    with ThreadPoolExecutor(6) as pool:
        for job in jobs[1:]:
            item = server.app.state.server.job_store.find(job)
            gate = Barrier(6)
            ends = [
                pool.submit(lambda: (gate.wait(), server.app.state.server.job_store.remove(item)))  # noqa: B023
                for _ in range(6)
            ]
            assert all(end.result() for end in ends)
            server.delete(f"/v1/jobs/{job}")
    assert admission.active == 1
    accepted = [server.post("/v1/jobs", content=encoded()).status_code for _ in range(6)]
    assert accepted == [201] * 3 + [429] * 3
    engine.open.set()
    assert until(lambda: admission.active == 0)


def test_a_place_that_was_forgotten_comes_back():
    admission = Admission(Limits(per_client=1))
    slot = admission.enter("one")
    with pytest.raises(HttpError, match="1 images of one client"):
        admission.enter("one")
    del slot
    again = admission.enter("one")
    again.release()
    again.release()
    assert admission.active == 0


def test_all_that_a_job_leaves_on_disk_counts(client):
    server = client(kept_bytes=6 * 2**20)
    store, folders = server.app.state.server.job_store, server.app.state.server.folders
    padded = encoded() + bytes(2**21)  # behind a PNG's end, where nobody looks
    for _ in range(12):
        job = server.post("/v1/jobs", content=padded).json()["id"]
        assert until(lambda: server.get(f"/v1/jobs/{job}").json()["view"])  # noqa: B023
    assert until(lambda: store.find(job).stored is not None)
    store.tidy()
    assert 2 * 2**20 < bytes_on_disk(folders.root) <= 6 * 2**20
    assert server.get(f"/v1/jobs/{job}/result").status_code == 200, "the newest stays"


def test_the_number_of_jobs_is_bounded(client):
    server = client(kept_jobs=5)
    store = server.app.state.server.job_store
    for _ in range(12):
        job = server.post("/v1/jobs", content=b"\x89PNG\r\n\x1a\n" + bytes(100))
        assert job.status_code == 422
        job = server.post("/v1/jobs", content=encoded()[:3000]).json()["id"]
        assert until(lambda: server.get(f"/v1/jobs/{job}").json()["state"] == "failed")  # noqa: B023
    assert until(lambda: len(store) <= 5)
    assert len(server.app.state.server.folders.existing()) <= 5


def test_a_spool_that_was_removed_comes_back(client, monkeypatch):
    monkeypatch.setattr("sr_tile.serving.http.job_store._EVERY_SECONDS", 3600.0)
    server = client()
    folders = server.app.state.server.folders
    old = server.post("/v1/jobs", content=encoded()).json()["id"]
    assert until(lambda: server.get(f"/v1/jobs/{old}").json()["view"])
    shutil.rmtree(folders.root)
    assert is_refusal(server.get("/readyz"), 503, "no_storage")
    for path in ("/v1/enhance", "/v1/jobs", "/v1/enhance/batch"):
        assert is_refusal(server.post(path, files={"image": ("a.png", encoded())}), 507, "no_storage")
    assert is_refusal(server.get(f"/v1/jobs/{old}/result"), 404, "unknown_job")
    assert server.get("/healthz").status_code == 200
    assert server.app.state.server.admission.active == 0
    folders.restore()
    server.app.state.server.job_store.tidy()
    assert server.get("/readyz").status_code == 200
    assert server.post("/v1/enhance", content=encoded()).status_code == 200
    assert is_refusal(server.get(f"/v1/jobs/{old}"), 404, "unknown_job")


def test_a_spool_that_is_removed_while_an_image_is_under_way(client):
    engine = BlockedEngine()
    server = client({"toy": engine})
    engine.block()
    job = server.post("/v1/jobs", content=encoded("png", 300, 300)).json()["id"]
    assert engine.entered.wait(30)
    shutil.rmtree(server.app.state.server.folders.root)
    engine.open.set()
    assert until(lambda: server.get(f"/v1/jobs/{job}").json()["state"] == "failed")
    assert server.get(f"/v1/jobs/{job}").json()["error"]["code"] == "no_storage"
    assert until(lambda: server.get("/readyz").status_code == 200), "it restores itself"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_507_and_comes_back(client, monkeypatch):
    server = client()
    with monkeypatch.context() as full:
        full.setattr(Path, "open", lambda _, *mode, **keywords: open("/dev/full", *mode, **keywords))  # noqa: PTH123, SIM115
        assert is_refusal(server.get("/readyz"), 503, "no_space")
        for path in ("/v1/enhance", "/v1/jobs"):
            assert is_refusal(server.post(path, content=encoded()), 507, "no_space")
        assert is_refusal(server.post("/v1/enhance", files={"image": ("a.png", encoded())}), 507, "no_space")
    assert server.get("/readyz").json() == {"status": "ready", "models": [{"name": "toy", "device": "cpu"}]}
    assert server.post("/v1/enhance", content=encoded()).status_code == 200
    assert server.app.state.server.admission.active == 0


def test_results_are_kept_for_a_while_only(client):
    server = client(keep_seconds=1e-6)
    job = server.post("/v1/jobs", content=encoded()).json()["id"]
    assert until(lambda: server.get(f"/v1/jobs/{job}").status_code == 404)
    small = client(kept_bytes=1)
    job = small.post("/v1/jobs", content=encoded()).json()["id"]
    item = small.app.state.server.job_store.find(job)
    assert until(item.future.done)
    small.app.state.server.job_store.tidy()
    assert small.get(f"/v1/jobs/{job}").status_code == 404
    assert until(lambda: not item.task.folder.exists())


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


def test_mixed_pictures_one_after_another(client, reference):
    server = client()
    for kind, content in mixed(12):
        assert server.post("/v1/enhance", content=content).content == reference(content, kind), kind
