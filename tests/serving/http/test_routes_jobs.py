"""Jobs over HTTP, and their results."""

import io
import json
import zipfile

import pytest
from support.answers import is_refusal
from support.encoded_images import encoded
from support.servers import BlockedEngine, until


@pytest.mark.slow
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
