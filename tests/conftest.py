"""Annotations of shapes are checked in every test: the hook must be in place before the package is imported."""

import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook
from support import shapes

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    # Each worker keeps to some processors: threads of runtimes that wait for one spin, and did half of the suite's work.
    processors = sorted(os.sched_getaffinity(0))
    first = int(worker.removeprefix("gw")) % len(processors)
    os.sched_setaffinity(0, processors[first :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])])

# Where whoever started the tests ignores signals (nohup, a shell), so would all processes that tests end by them.
for number in (getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)  # as deaf, but not handed on

settings.register_profile("untimed", deadline=None)  # no test depends on time
settings.load_profile("untimed")
ANNOTATED = ["pipeline.tile_batches", "tiling", "engines"]
install_import_hook([f"sr_tile.{module}" for module in ANNOTATED], "support.shapes.checked")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: none is begun when the other processes have nothing left to do."""
    tests = Counter(item.path for item in items)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path]))


@pytest.fixture(scope="session", autouse=True)
def _no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No fixture reads or fills the user's cache: what was measured there must not decide about tiles in a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _checked_shapes() -> None:
    shapes.begin()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a test find what another one measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Nor does a command line that ran in this process go on printing what later tests log."""
    log = logging.getLogger("sr_tile")
    before = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a command line in `tmp_path` and gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    from sr_tile.cli import main as cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["sr-tile", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return code, output.out, output.err

    return call
