"""kill -9, SIGTERM, SIGHUP and SIGINT at random moments of plain runs, jobs, a server and Ray; seeded, for any time.

    python bench/signals.py [--rounds 100] [--seed 0] [--kinds plain,job,server,ray] [--keep DIR]

Each round starts a process, sends it one signal at a moment between its start and the end of an undisturbed run, then starts
it again and lets it end. A round is the same again with `--seed S --first ROUND --rounds 1`, but for the machine's speed.
Counted, and printed with the round that shows it:

- codes: the exit code is not 128 + the signal's number (0 where all was done, or a server had finished what was under way);
- lines: more on stderr than one line, or a traceback;
- left: unfinished files, or a spool, once the process has ended (after kill -9: once the next has started);
- bytes: results after the second start differ from those of an undisturbed run;
- orphans: a process that the round started lives 30 s after it.

A signal that comes before Python has begun to run `sr_tile` ends the process as it does any other; that counts as `early`.
Exit code 1 where any of the five is not 0.
"""

import argparse
import contextlib
import http.client
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from common import ServerProcess, markdown, tiny_model
from PIL import Image

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
FAULTS = ("codes", "lines", "left", "bytes", "orphans")
PICTURES = 12
ORPHAN_SECONDS = 30.0
# Giants and their strips are small here, so that a job has some; and signals are handled as by `python -m sr_tile`.
_MAIN = (
    "from sr_tile.__main__ import stopping\nstopping.install()\n"
    "import sr_tile.jobs.resumable as jobs\njobs.GIANT_PIXELS, jobs.STRIP_PIXELS = 400_000, 80_000\n"
    "from sr_tile.cli.main import main\nmain()"
)


class Rounds:
    """Rounds, and what they showed.

    Args:
        folder: where they work.
        seed: of all rounds.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self._marker = f"SR_TILE_SIGNALS={folder}"
        self._expected: dict[str, tuple[dict[str, bytes], float]] = {}
        (folder / "in").mkdir()
        dice = np.random.default_rng(0)
        for index in range(PICTURES):
            sides = (700, 900) if index == 5 else (120 + 9 * index, 150)
            pixels = dice.integers(0, 255, (*sides, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "in" / f"{index}.png", compress_level=1)
        tiny_model(folder / "m.onnx")

    def round(self, number: int, kinds: list[str]) -> None:
        """One round: its kind and signal follow from its number, its moment from the seed as well."""
        kind, sent = kinds[number % len(kinds)], SIGNALS[number // len(kinds) % len(SIGNALS)]
        dice = random.Random(f"{self.seed}-{number}")
        place = self.folder / f"round-{number}"
        place.mkdir()
        self._what, before = f"round {number} ({kind}, {sent.name})", self.faults.total()
        ended = self._server(place, sent, dice) if kind == "server" else self._files(kind, place, sent, dice)
        self.counts[kind, sent.name, ended] += 1
        self._check_orphans()
        if self.faults.total() == before:
            shutil.rmtree(place, ignore_errors=True)

    def _fault(self, kind: str, detail: object) -> None:
        self.faults[kind] += 1
        print(f"{self._what}: {kind}: {str(detail)[-500:]!a}", flush=True)

    def _start(self, kind: str, place: Path) -> subprocess.Popen[str]:
        marker = dict([self._marker.split("=", 1)])
        environment = {**os.environ, "HOME": str(place), "TMPDIR": str(place), "RAY_TMPDIR": "/tmp", **marker}
        more = {"job": ["--job", "job"], "ray": ["--engine", "ray", "--overwrite"]}.get(kind, ["--overwrite"])
        options = ["--model", str(self.folder / "m.onnx"), "--device", "cpu", "--tile-size", "64", "-q", *more]
        command = [sys.executable, "-c", _MAIN, "enhance", str(self.folder / "in"), "out", *options]
        return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)

    def _undisturbed(self, kind: str) -> tuple[dict[str, bytes], float]:
        """Results of a run that nothing disturbs, and its seconds."""
        if kind not in self._expected:
            place = self.folder / f"undisturbed-{kind}"
            place.mkdir()
            start = time.monotonic()
            process = self._start(kind, place)
            _, said = process.communicate(timeout=600)
            assert process.returncode == 0, said
            self._expected[kind] = results(place), time.monotonic() - start
        return self._expected[kind]

    def _files(self, kind: str, place: Path, sent: signal.Signals, dice: random.Random) -> str:
        expected, seconds = self._undisturbed(kind)
        process = self._start(kind, place)
        time.sleep(dice.uniform(0, seconds))
        process.send_signal(sent)
        try:
            _, said = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            self._fault("codes", "it did not end in 120 s")
            return "not ended"
        lines = said.splitlines(keepends=True)
        said = "".join(line for line in lines if "Set ray log level" not in line)  # which Ray says of itself
        ended = self._judge(process.returncode, sent, said)
        if sent != signal.SIGKILL and (left := unfinished(place)):
            self._fault("left", left)
        again = self._start(kind, place)
        _, said = again.communicate(timeout=600)
        if again.returncode:
            self._fault("codes", f"the second start: exit {again.returncode}: {said}")
        if results(place) != expected:
            self._fault("bytes", sorted(results(place).keys() ^ expected.keys()) or "other bytes")
        if left := unfinished(place):
            self._fault("left", f"after the second start: {left}")
        return ended

    def _judge(self, code: int, sent: signal.Signals, said: str) -> str:
        """How a process ended; a fault where it should not have ended so."""
        if code == -sent and (sent == signal.SIGKILL or not said):
            return "killed" if sent == signal.SIGKILL else "early"
        if sent == signal.SIGINT and "Traceback" in said and "sr_tile/__main__" not in said:
            return "early"
        if code not in (0, 128 + sent):
            self._fault("codes", f"exit {code}: {said}")
        if said != (f"sr-tile: stopped by {sent.name}\n" if code else ""):
            self._fault("lines", said)
        return "stopped" if code else "done"

    def _server(self, place: Path, sent: signal.Signals, dice: random.Random) -> str:
        """A server that is asked by four clients, from its start on."""
        os.environ.update([self._marker.split("=", 1)])
        server = ServerProcess(place, "--model", self.folder / "m.onnx", "--device", "cpu")
        over = threading.Event()
        clients = [threading.Thread(target=self._ask, args=(server, over)) for _ in range(4)]
        for client in clients:
            client.start()
        if dice.random() < 0.5:  # the other half: at some moment of its start, or soon after
            server.port()
        time.sleep(dice.uniform(0, 6.0))
        server.process.send_signal(sent)
        try:
            code = server.process.wait(120)
        except subprocess.TimeoutExpired:
            server.process.kill()
            self._fault("codes", "it did not end in 120 s")
            code = server.process.wait()
        over.set()
        for client in clients:
            client.join()
        said = "".join(line for line in server.said().splitlines(keepends=True) if "serving on" not in line)
        ended = self._judge(code, sent, said)
        if sent != signal.SIGKILL and (left := server.left()):
            self._fault("left", left)
        again = ServerProcess(place, "--model", self.folder / "m.onnx", "--device", "cpu")
        if not again.port() or len(again.left()) != 1:
            self._fault("left", f"beside the next server's: {again.left()}")
        again.process.terminate()
        if (code := again.process.wait(60)) or again.left():
            self._fault("left", f"the second server: exit {code}, {again.left()}")
        return ended

    def _ask(self, server: ServerProcess, over: threading.Event) -> None:
        port = server.port()
        content = (self.folder / "in" / "3.png").read_bytes()
        while port and not over.is_set() and server.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/v1/enhance", content)
                connection.getresponse().read()
            connection.close()

    def _check_orphans(self) -> None:
        end = time.monotonic() + ORPHAN_SECONDS
        while (found := marked(self._marker)) and time.monotonic() < end:
            time.sleep(0.2)
        for process in found:
            with contextlib.suppress(psutil.Error):
                self._fault("orphans", " ".join(process.cmdline())[:200])
                process.kill()


def results(place: Path) -> dict[str, bytes]:
    """Files that a run has written, by name."""
    out = place / "out"
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".png"} if out.is_dir() else {}


def unfinished(place: Path) -> list[str]:
    """What stands in a run's folders and is no result, and strips that a job should have removed."""
    found = [*place.rglob("*.part"), *place.rglob("*.sr-tile-tmp"), *place.glob("sr-tile-*")]
    if (place / "job").is_dir() and len(results(place)) == PICTURES:
        found += (place / "job" / "strips").glob("*")
    return [str(path.relative_to(place)) for path in found if ".cache" not in path.parts]


def marked(marker: str) -> list[psutil.Process]:
    """Processes that run with a marker in their environment, but for this one."""
    name, value = marker.split("=", 1)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def main() -> None:
    """All rounds, then the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="round to begin with")
    parser.add_argument("--kinds", default="plain,job,server,ray")
    parser.add_argument("--keep", type=Path, help="folder for the rounds that showed something")
    arguments = parser.parse_args()
    for number in (
        signal.SIGINT,
        signal.SIGHUP,
    ):  # ignored in the background of a script, and then by what is started here
        signal.signal(number, signal.SIG_DFL)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="sr-tile-signals-"))
    folder.mkdir(parents=True, exist_ok=True)
    rounds, kinds = Rounds(folder.resolve(), arguments.seed), arguments.kinds.split(",")
    for number in range(arguments.first, arguments.first + arguments.rounds):
        rounds.round(number, kinds)
    if not rounds.faults and not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    ends = ("stopped", "done", "early", "killed", "not ended")
    rows = [
        [kind, sent.name, *(rounds.counts[kind, sent.name, end] for end in ends)] for kind in kinds for sent in SIGNALS
    ]
    print(markdown(["", "signal", *ends], rows))
    print(", ".join(f"{kind} {rounds.faults[kind]}" for kind in FAULTS))
    sys.exit(bool(rounds.faults))


if __name__ == "__main__":
    main()
