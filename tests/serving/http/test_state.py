"""A server that rests."""

import platform

import httpx
import pytest
from support.encoded_images import encoded
from support.kept_memory import keep_free_memory
from support.servers import until

from sr_tile.system import memory


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not asked")
def test_a_server_that_rests_gives_memory_back(live):
    server = live()
    last = keep_free_memory()
    held = memory.process_ram()
    assert httpx.post(f"{server.url}/v1/enhance", content=encoded(), timeout=60).status_code == 200
    assert until(lambda: memory.process_ram() < held - 2**26)
    assert last
