import contextlib

import pytest
from fastapi.testclient import TestClient
from support.servers import SETTINGS, Live, make_host, until
from support.toys import conv_model

from sr_tile.enhancer import Enhancer
from sr_tile.images import WriteOptions
from sr_tile.serving.http.app import create_app
from sr_tile.serving.http.uvicorn_server import build, listen


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return conv_model(tmp_path_factory.mktemp("model") / "toy.onnx", 2)


@pytest.fixture
def reference(model, tmp_path):
    """What `sr-tile enhance` writes for a file."""

    def enhance(content, kind="png", settings=SETTINGS, alpha="bicubic", **options):
        (tmp_path / "reference-in").write_bytes(content)
        target = tmp_path / f"reference-out.{kind}"
        with Enhancer(model, settings=settings, alpha=alpha) as enhancer:
            enhancer.enhance_file(tmp_path / "reference-in", target, overwrite=True, options=WriteOptions(**options))
        return target.read_bytes()

    return enhance


@pytest.fixture
def client(model):
    """Starts an application, and gives a client of it."""
    with contextlib.ExitStack() as stack:

        def start(models=model, token=None, hosts=None, **limits):
            app = create_app(make_host(models, **limits), token=token, hosts=hosts)
            made = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            assert until(lambda: made.get("/readyz").status_code == 200)
            return made

        yield start


@pytest.fixture
def live(model):
    """Starts real servers."""
    with contextlib.ExitStack() as stack:

        def start(models=model, token=None, **limits):
            listener = stack.enter_context(listen("127.0.0.1", 0))
            running = Live(build(make_host(models, **limits), token=token), listener)
            stack.callback(running.stop)
            return running

        yield start
