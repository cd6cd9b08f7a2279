"""Twice as many requests as can be served, for as long as you like: nothing is lost and memory stays flat.

    python bench/soak.py [--minutes 10] [--images]               the batcher, or the shared engine with whole images
    python bench/soak.py [--minutes 10] --serve                                 a server that it starts, of a tiny model
    python bench/soak.py [--minutes 10] --url http://127.0.0.1:8000 [--pid N] [--token T]       a running server

Among the good requests are poisoned ones, some whose caller goes away, and some in a hurry; the batcher's worker also raises
what no worker should, and is stopped and started under load. A server also meets pictures of a few kB that claim as many
pixels as it takes and more, clients that send a byte a second, and asks for `/healthz` between them. Prints a line every few
seconds, and ends with 1 where a request stayed without an answer, an answer was wrong, memory at rest (all clients pause six
times) grew by more than --most-growth or was ever above --limit, or one of a hundred answers of `/healthz` took more than
--most-health.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
from common import ServerProcess, machine, tiny_model
from soak_clients import MEGAPIXELS, SLOW_SECONDS, Clients, make_bombs, soak_server
from soak_counts import Soak
from soak_in_process import soak_batcher, soak_images


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--images", action="store_true", help="the shared engine with whole images")
    parser.add_argument("--url", help="a running server")
    parser.add_argument("--serve", action="store_true", help="start a server")
    parser.add_argument(
        "--limit", type=float, default=0.0, help="MiB that the server may hold; its --mem-limit if started"
    )
    parser.add_argument(
        "--most-health", type=float, default=50.0, help="milliseconds for 99 of 100 answers of /healthz"
    )
    parser.add_argument("--pid", type=int, help="of the server, to watch its memory")
    parser.add_argument("--token", help="of the server")
    parser.add_argument("--clients", type=int, default=32, help="against a server: twice what it takes at a time")
    parser.add_argument("--most-growth", type=float, default=20.0, help="MiB")
    arguments = parser.parse_args()
    print(machine())
    server: ServerProcess | None = None
    if arguments.serve:
        arguments.limit = arguments.limit or 1500.0
        place = Path(tempfile.mkdtemp(prefix="sr-tile-soak-"))
        bounds = ["--mem-limit", f"{arguments.limit:.0f}MiB", "--max-megapixels", MEGAPIXELS, "--timeout", SLOW_SECONDS]
        most = arguments.clients // 2
        options = [*bounds, "--queue", most, "--per-client", most]  # all come from one address
        server = ServerProcess(place, "--model", tiny_model(place / "tiny.onnx"), "--device", "cpu", *map(str, options))
        arguments.url, arguments.pid = f"http://127.0.0.1:{server.port()}", server.process.pid
    bombs = make_bombs() if arguments.url else []  # takes a while: before time begins
    soak = Soak(arguments.minutes, psutil.Process(arguments.pid), arguments.most_growth)
    clients = Clients(soak, arguments.url, arguments.token, bombs) if arguments.url else None
    work: Callable[[], None] = lambda: soak_batcher(soak)  # noqa: E731
    if clients:
        work = lambda: soak_server(soak, clients, arguments.clients)  # noqa: E731
    elif arguments.images:
        work = lambda: soak_images(soak)  # noqa: E731
    worker = threading.Thread(target=work)
    worker.start()
    soak.watch()
    worker.join()
    if server:
        server.process.terminate()
        print(f"server: exit {server.process.wait()}, left {server.left()}, said {server.said()!a}"[:2000])
    return soak.verdict(arguments.limit, arguments.most_health)


if __name__ == "__main__":
    sys.exit(main())
