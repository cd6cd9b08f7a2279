"""Damaged files, hostile models, and states of disk and folder, against command line and server; seeded, for any time.

    python bench/fuzz.py [--minutes 10 | --rounds N] [--seed 0] [--kinds images,server,models,journals,places] [--keep DIR]

One round after the other, each a process of `sr-tile` on inputs made from the seed and the round's number; a round is the
same again with `--seed S --first ROUND --rounds 1`. Rounds of `server` upload to one server, several at a time. Counted, and
printed with the round that shows it:

- aborts: the process died of a signal (an allocator's or GLib's abort, a segmentation fault);
- hangs: it did not end in `--timeout` seconds;
- tracebacks: a traceback, or the last net's "did not expect this";
- escapes: a control character on the terminal, from a file's name or a model's metadata;
- left: files that are neither input nor result;
- unaccounted: inputs of which the report does not say what became of them, or says something that the disk does not show;
  uploads without an answer, or answered 200 with what is no picture;
- grown: the server took more memory at its end than after its first fifth, by more than `MOST_GROWTH`.

Exit code 1 where any of them is not 0.
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import ServerProcess
from hostile_models import Case, cases
from mutants import SUFFIXES, model, mutate, seeds
from odd_places import GOOD, ODD, environment, limits, obeying, odd_place

from sr_tile.images.vips import vips

MUTANTS = 200  # images a round
AT_ONCE = 8  # uploads
MOST_GROWTH = 64  # MiB
FAULTS = ("aborts", "hangs", "tracebacks", "escapes", "left", "unaccounted", "grown")
_ESCAPES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Fuzzer:
    """Rounds, and what they showed.

    Args:
        folder: where rounds work, each in a folder of its own, which is removed where nothing was found.
        seed: of all rounds.
        timeout: seconds of one command.
    """

    def __init__(self, folder: Path, seed: int, timeout: float) -> None:
        self.folder, self.seed, self.timeout = folder, seed, timeout
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._seeds = seeds()
        self._cases: dict[str, Case] = {}
        self._server: ServerProcess | None = None
        self._port, self._log_seen, self._memory = 0, 0, [0]
        self._kinds: dict[str, Callable[[Path, random.Random], None]] = {
            "images": self._images,
            "server": self._uploads,
            "models": self._models,
            "journals": self._journals,
            "places": self._places,
        }

    def round(self, number: int, kinds: list[str]) -> None:
        """One round: its kind follows from its number."""
        kind, self._number, self._turn = kinds[number % len(kinds)], number, number // len(kinds)
        dice = random.Random(f"{self.seed}-{number}")
        place = self.folder / f"round-{number}"
        place.mkdir()
        before = self.faults.total()
        self._what = f"round {number} ({kind})"
        self._kinds[kind](place, dice)
        if self.faults.total() == before:
            shutil.rmtree(place, ignore_errors=True)

    def _fault(self, kind: str, detail: str) -> None:
        self.faults[kind] += 1
        print(f"{self._what}: {kind}: {detail[-600:]!a}", flush=True)

    def _run(self, place: Path, *arguments: str, before: Sequence[str] = (), **changed: Any) -> str:
        """One command; what it printed, after the checks that hold for every command.

        Args:
            place: the folder it runs in.
            arguments: of `sr-tile`.
            before: what stands before it.
            changed: `environment`, and `limits`, called before it begins.
        """
        homes = {"HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
        environment = {**os.environ, **homes, **changed.get("environment", {})}
        self.counts["commands"] += 1
        command = [*before, sys.executable, "-m", "sr_tile", *arguments]
        options: dict[str, Any] = {"cwd": place, "env": environment, "preexec_fn": changed.get("limits")}
        options |= {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": self.timeout, "check": False}
        try:
            done = subprocess.run(command, **options)
        except subprocess.TimeoutExpired:
            self._fault("hangs", " ".join(arguments))
            return ""
        except (ValueError, OSError):  # arguments that the system does not take
            return ""
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        out = "" if arguments[-1] == "-" else out  # the picture
        if done.returncode < 0:
            self._fault("aborts", f"signal {-done.returncode}: {err}")
        elif "Traceback" in err or "did not expect this" in err or done.returncode not in (0, 1, 2):
            self._fault("tracebacks", f"exit {done.returncode}: {err}")
        if _ESCAPES.search(out + err):
            self._fault("escapes", out + err)
        return out + err

    def _check_folder(self, place: Path, folder: str, names: set[str]) -> None:
        """Results are what the report says, and nothing else is there."""
        report = json.loads((place / "report.json").read_text()) if (place / "report.json").is_file() else {"files": []}
        status = {Path(file["source"]).name: file["status"] for file in report["files"]}
        self.counts.update(f"images {state}" for state in status.values())
        for name in sorted(names):
            there = (place / folder / name).is_file()
            if status.get(name) not in ("done", "failed") or there != (status[name] == "done"):
                self._fault("unaccounted", f"{name}: {status.get(name)}, result {there}")
        if (place / folder).is_dir():
            for path in (place / folder).iterdir():
                if path.name not in names:
                    self._fault("left", path.name)
        for path in place.glob(".*.part"):
            self._fault("left", path.name)

    def _images(self, place: Path, dice: random.Random) -> None:
        (place / "in").mkdir()
        (place / "m.onnx").write_bytes(model())
        names = set()
        for index in range(MUTANTS):
            suffix = dice.choice(SUFFIXES)
            names.add(name := f"{index}.{suffix}")
            (place / "in" / name).write_bytes(mutate(dice.choice(self._seeds[suffix]), dice))
        self.counts["mutants of images"] += MUTANTS
        self._run(
            place, "enhance", "in", "out", "--model", "m.onnx", "--device", "cpu", "-q", "--report", "report.json"
        )
        self._check_folder(place, "out", names)

    def _uploads(self, place: Path, dice: random.Random) -> None:
        """Mutants to one server, several at a time; it goes on over all rounds."""
        if self._server is None or self._server.process.poll() is not None:
            (place / "m.onnx").write_bytes(model())
            home = self.folder / f"server-{place.name}"
            self._server = ServerProcess(home, "--model", place / "m.onnx", "--device", "cpu")
            self._port, self._log_seen, self._memory = self._server.port(), 0, []
        mutants = [mutate(dice.choice(self._seeds[dice.choice(SUFFIXES)]), dice) for _ in range(MUTANTS)]
        self.counts["mutants through the server"] += MUTANTS
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for index, answer in enumerate(pool.map(self._upload, mutants)):
                self.counts[f"uploads {answer}"] += 1
                if not answer.startswith(("answered 200", "answered 4")):
                    kind = {"answered 500": "tracebacks", "timed out": "hangs"}.get(answer, "unaccounted")
                    self._fault(kind, f"{answer}, mutant {index}")
        if self._server.process.poll() is not None:
            self._fault("aborts", f"exit {self._server.process.returncode}: {self._server.said()}")
        self._read_log(self._server)
        end = time.monotonic() + 10.0  # a folder goes after its answer
        while (left := self._server.spooled()) and time.monotonic() < end:
            time.sleep(0.05)
        for path in left:
            self._fault("left", str(path))
        self._memory.append(self._server.memory() >> 20)

    def _upload(self, content: bytes) -> str:
        """What became of one upload."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self.timeout)
        try:
            connection.request("POST", "/v1/enhance", content)
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                vips().Image.new_from_buffer(body, "", fail_on="error").avg()
            return f"answered {response.status}"
        except TimeoutError:
            return "timed out"
        except (OSError, http.client.HTTPException, vips().Error) as error:
            return f"{type(error).__name__} {error}"
        finally:
            connection.close()

    def _read_log(self, server: ServerProcess) -> None:
        said = server.said()
        new, self._log_seen = said[self._log_seen :], len(said)
        if "Traceback" in new or "did not expect this" in new:
            self._fault("tracebacks", new)
        if _ESCAPES.search(new):
            self._fault("escapes", new)

    def end(self) -> None:
        """Stop the server; what it leaves, and how its memory went."""
        server, self._what = self._server, "end (server)"
        if server is None or server.process.poll() is not None:
            return
        server.process.send_signal(signal.SIGTERM)
        try:
            code = server.process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            self._fault("hangs", "after SIGTERM")
            server.process.kill()
            return
        self._read_log(server)
        if code or server.left():
            self._fault("left", f"exit {code}, {server.left()}")
        settled = self._memory[len(self._memory) // 5 :]
        quarter = max(1, len(settled) // 4)
        before, after = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
        self.counts.update({"MiB of the server after a fifth": int(before), "MiB of the server at its end": int(after)})
        if after > before + MOST_GROWTH:
            self._fault("grown", f"MiB after each round: {self._memory}")

    def _models(self, place: Path, dice: random.Random) -> None:
        """Three of the cases, which all have their turn; what varies inside of one differs each time."""
        self._cases = self._cases or cases()
        names = list(self._cases)
        (place / "good.png").write_bytes(self._seeds["png"][0])
        for index in range(3):
            what = names[(3 * self._turn + index) % len(names)]
            files = self._cases[what](dice)
            for suffix, content in files.items():
                (place / f"m{index}.{suffix}").write_bytes(content)
            path, device = f"m{index}.{next(iter(files))}", ("--device", "cpu", "--model")
            command = ["enhance", "good.png", f"{index}.png", *device, path]
            if path.endswith("onnx"):
                command = dice.choice([command, ["plan", "--size", "64x48", *device, path], ["inspect", path]])
            elif dice.random() < 0.5:
                command = ["export-onnx", path, f"out{index}.onnx"]
            self.counts["hostile models"] += 1
            self._what = f"round {self._number} (models: {what})"
            said = self._run(place, *command)
            self.counts["hostile models refused"] += "error:" in said
        for path in [*place.glob(".*.part"), *place.glob("*.sr-tile-tmp")]:
            self._fault("left", path.name)

    def _journals(self, place: Path, dice: random.Random) -> None:
        (place / "in").mkdir()
        (place / "m.onnx").write_bytes(model())
        names = {f"{index}.png" for index in range(3)}
        for name in names:
            (place / "in" / name).write_bytes(self._seeds["png"][0])
        command = ("enhance", "in", "out", "--model", "m.onnx", "--device", "cpu", "-q", "--report", "report.json")
        self._run(place, *command, "--job", "job")
        shapes = ["{}", "[]", "null", "1", '{"event": "start"}', '{"event": "done", "target": []}', "[" * 100_000,
                  '{"event": "begin", "target": "x"}', '{"event": "strip", "target": "x"}',
                  "1e999", '"\\ud800"']  # fmt: skip
        journal = place / "job" / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        if dice.random() < 0.5:
            journal.write_bytes(mutate(b"".join(lines), dice))
        else:
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(shapes).encode() + b"\n")
            journal.write_bytes(b"".join(lines))
        for path in (place / "cache").rglob("*.json"):
            path.write_bytes(dice.choice(shapes).encode() if dice.random() < 0.5 else mutate(path.read_bytes(), dice))
        self.counts["damaged journals and caches"] += 1
        self._run(place, *command, "--job", "job")
        self._run(place, "job", "status", "job")
        self._run(place, "plan", "in", "--model", "m.onnx", "--device", "cpu")

    def _places(self, place: Path, dice: random.Random) -> None:
        """States of the file system, see `odd_places`; sound sources stay as they are."""
        pictures = {suffix: files[0] for suffix, files in self._seeds.items()}
        (place / "m.onnx").write_bytes(model())
        with odd_place(place, pictures):
            kinds = {path.name: path.lstat().st_mode for path in place.iterdir()}
            for _ in range(4):
                source, target = dice.choice([*ODD, *GOOD, *GOOD]), dice.choice([*ODD, "out.png", "out/", "out.webp"])
                extra = dice.choice([[], ["--overwrite"], ["--skip-existing"], ["-r"], ["-r", "--job", "j"],
                                     ["--job", dice.choice(ODD) or "j"], ["--report", dice.choice(ODD) or "r"],
                                     ["--model", dice.choice(ODD) or "m"]])  # fmt: skip
                given = [] if "--model" in extra else ["--model", "m.onnx"]
                self.counts["states of the file system"] += 1
                said = self._run(
                    *(place, "enhance", "--device", "cpu", "-q", *given, *extra, "--", source, target),
                    before=obeying(),
                    environment=environment(dice),
                    limits=limits(dice),
                )
                self.counts["states of the file system refused"] += "error:" in said
                for name in GOOD:
                    if (place / name).read_bytes() != pictures[Path(name).suffix[1:]]:
                        self._fault("unaccounted", f"{name} was changed by {source} {target} {extra}")
            for name, kind in kinds.items():
                if name not in ("dangling.png", "linked.png") and (place / name).lstat().st_mode != kind:
                    self._fault("unaccounted", f"{name} is no longer what it was")
        for path in [*place.rglob(".*.part"), *place.rglob("*.sr-tile-tmp")]:
            self._fault("left", str(path.relative_to(place)))


def main() -> None:
    """Rounds until the time is over; then the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, help="so many in place of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="round to begin with")
    parser.add_argument("--kinds", default="images,server,models,journals,places")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds of one command")
    parser.add_argument("--keep", type=Path, help="folder for the rounds that showed something")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="sr-tile-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    fuzzer = Fuzzer(folder, arguments.seed, arguments.timeout)
    start, number = time.monotonic(), arguments.first
    last = arguments.first + arguments.rounds if arguments.rounds else None
    while number == arguments.first or (number < last if last else time.monotonic() - start < 60 * arguments.minutes):
        fuzzer.round(number, arguments.kinds.split(","))
        number += 1
    fuzzer.end()
    if not arguments.keep and not fuzzer.faults:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"rounds {arguments.first} to {number - 1} of seed {arguments.seed}, {time.monotonic() - start:.0f} s")
    for what, count in sorted(fuzzer.counts.items()):
        print(f"{count:8}  {what}")
    print(", ".join(f"{kind} {fuzzer.faults[kind]}" for kind in FAULTS))
    sys.exit(bool(fuzzer.faults))


if __name__ == "__main__":
    main()
