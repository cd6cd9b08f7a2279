"""What jobs may take of the server's places and disk."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from support.answers import is_refusal
from support.encoded_images import encoded
from support.servers import BlockedEngine, until

from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.limits import Admission, Limits
from sr_tile.serving.http.request_folders import bytes_on_disk


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
    # What was forgotten goes once the thread that did it has ended.
    assert until(lambda: 2 * 2**20 < bytes_on_disk(folders.root) <= 6 * 2**20)
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


@pytest.mark.slow
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


@pytest.mark.slow
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
