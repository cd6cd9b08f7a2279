"""Who may ask, and what browsers are told."""

from support.answers import is_refusal
from support.encoded_images import encoded


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
