"""Servers for tests, with engines that can be held up."""

import threading
import time

from support.toys import ToyEngine

from sr_tile.planner import Settings
from sr_tile.serving.http.limits import Limits
from sr_tile.serving.http.model_pool import ModelPool

SETTINGS = Settings(tile=64, overlap=16, batch=4)


def until(holds, seconds=30.0):
    """Wait until a condition holds; whether it ever did."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class BlockedEngine(ToyEngine):
    """Repeats pixels; after `block`, calls wait until `open` is set, and `entered` says that one does."""

    def __init__(self):
        super().__init__()
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()

    def block(self):
        self.open.clear()
        self.entered.clear()

    def answer(self, batch_nchw):
        self.entered.set()
        assert self.open.wait(60)
        return super().answer(batch_nchw)


def make_host(models, **limits):
    return ModelPool(models if isinstance(models, dict) else [models], settings=SETTINGS, limits=Limits(**limits))


class Live:
    """A real server in a thread."""

    def __init__(self, server, listener):
        self.server, self.listener = server, listener
        self.thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        assert until(lambda: server.started and (server.app.state.server.pool.models or server.failed))

    @property
    def state(self):
        return self.server.app.state.server

    def stop(self):
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()
