"""A server that is full, and one that rests."""

import asyncio
import platform

import httpx
import pytest
from starlette.requests import Request
from support.encoded_images import encoded
from support.kept_memory import keep_free_memory
from support.servers import make_host, until

from sr_tile.cli.serve import LimitOptions
from sr_tile.serving.http import limits
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.state import Server
from sr_tile.system import memory


@pytest.fixture
def full(model):
    """A server whose only place a client has."""

    async def take():
        server = Server(make_host(model, per_client=1))
        return server, await server.place(REQUEST)

    return take


REQUEST = Request({"type": "http", "client": ("somebody", 1)})


def test_a_request_gets_a_place_that_comes_free_a_moment_later(full):
    async def meet():
        server, first = await full()
        second = asyncio.create_task(server.place(REQUEST))
        await asyncio.sleep(0)
        first.release()
        (await second).release()

    asyncio.run(meet())


def test_a_request_is_refused_where_no_place_comes_free_and_at_once_where_none_will(full):
    async def meet():
        server, _ = await full()
        second = asyncio.create_task(server.place(REQUEST))
        await asyncio.sleep(0)
        assert not second.done()
        with pytest.raises(HttpError, match="1 images of one client"):
            await second
        server.admission.draining = True
        third = asyncio.create_task(server.place(REQUEST))
        await asyncio.sleep(0)
        assert third.done()
        with pytest.raises(HttpError, match="stopping"):
            await third

    asyncio.run(meet())


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not asked")
def test_a_server_that_rests_gives_memory_back(live):
    server = live()
    last = keep_free_memory()
    held = memory.process_ram()
    assert httpx.post(f"{server.url}/v1/enhance", content=encoded(), timeout=60).status_code == 200
    assert until(lambda: memory.process_ram() < held - 2**26)
    assert last


@pytest.mark.parametrize(("cores", "images"), [(1, 2), (2, 3), (4, 5), (64, 8)])
def test_one_image_more_than_cores_is_worked_on_at_the_same_time(monkeypatch, cores, images):
    monkeypatch.setattr(limits, "thread_count", lambda: cores)
    assert limits.Limits().running == LimitOptions().limits.running == images
    assert LimitOptions(at_once=3).limits.running == 3
