"""Damaged files, hostile models, and states of disk and folder, against the command line; seeded, for as long as one likes.

    python bench/fuzz.py [--minutes 10] [--seed 0] [--kinds images,models,journals,places] [--keep DIR]

One round after the other, each a process of `sr-tile` on inputs made from the seed and the round's number; a round is the
same again with `--seed S --first ROUND --minutes 0`. Counted, and printed with the round that shows it:

- aborts: the process died of a signal (an allocator's or GLib's abort, a segmentation fault);
- hangs: it did not end in `--timeout` seconds;
- tracebacks: a traceback, or the last net's "did not expect this";
- escapes: a control character on the terminal, from a file's name or a model's metadata;
- left: files that are neither input nor result;
- unaccounted: inputs of which the report does not say what became of them, or says something that the disk does not show.

Exit code 1 where any of them is not 0.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from sr_tile.images.vips import vips

MUTANTS = 200  # images a round
SUFFIXES = ("png", "jpg", "tif", "webp", "avif")
FAULTS = ("aborts", "hangs", "tracebacks", "escapes", "left", "unaccounted")
_ESCAPES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def seeds() -> dict[str, list[bytes]]:
    """Small sound files of each format, with what decoders have branches for: depths, alpha, interlacing, EXIF, tiles."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 52, 4), dtype=np.uint8)
    found: dict[str, list[bytes]] = {suffix: [] for suffix in SUFFIXES}
    options = {
        "png": [{}, {"interlace": True}, {"palette": True}, {"bitdepth": 4}],
        "jpg": [{}, {"interlace": True}, {"restart_interval": 2}, {"subsample_mode": "off"}],
        "tif": [{}, {"tile": True, "compression": "deflate"}, {"compression": "lzw"}, {"compression": "jpeg"}],
        "webp": [{}, {"lossless": True}],
        "avif": [{"effort": 0}, {"effort": 0, "lossless": True}],
    }
    for suffix in SUFFIXES:
        for channels in (1, 3) if suffix == "jpg" else (1, 3, 4):
            space = "b-w" if channels == 1 else "srgb"
            image = vips().Image.new_from_array(pixels[..., :channels].squeeze()).copy(interpretation=space)
            for option in options[suffix]:
                for turned in (False, True):
                    if turned:
                        image = image.copy()
                        image.set_type(vips().GValue.gint_type, "orientation", 6)
                    try:
                        found[suffix].append(image.write_to_buffer(f".{suffix}", **option))
                    except vips().Error:  # such as a palette of gray
                        continue
    return found


def mutate(content: bytes, dice: random.Random) -> bytes:
    """The content with one to eight faults, mostly one: bytes changed, cut, doubled, put in, or set to extremes."""
    data = bytearray(content)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        near = 64 if dice.random() < 0.4 else len(data)  # headers are short, and where most branches are
        at = dice.randrange(max(1, min(near, len(data))))
        kind = dice.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at : at + 4] = dice.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
        elif kind == 2:
            del data[at : at + dice.choice([1, 2, 4, 100])]
        elif kind == 3:
            data[at:at] = dice.randbytes(dice.choice([1, 2, 16, 33]))
        elif kind == 4:
            data[at:at] = data[at : at + dice.choice([4, 16, 200])]
        elif dice.random() < 0.3:
            del data[dice.randrange(len(data) + 1) :]
    return bytes(data)


def model(metadata: str | None = None) -> bytes:
    """The smallest model: its output is its input."""
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", faces[:1], faces[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, {"sr_tile": '{"scale": 1, "multiple": 1}' if metadata is None else metadata})
    return made.SerializeToString()


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
        self._kinds: dict[str, Callable[[Path, random.Random], None]] = {
            "images": self._images,
            "models": self._models,
            "journals": self._journals,
            "places": self._places,
        }

    def round(self, number: int, kinds: list[str]) -> None:
        """One round: its kind follows from its number."""
        kind = kinds[number % len(kinds)]
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

    def _run(self, place: Path, *arguments: str) -> str:
        """One command; what it printed, after the checks that hold for every command."""
        environment = {**os.environ, "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
        self.counts["commands"] += 1
        command = [sys.executable, "-m", "sr_tile", *arguments]
        try:
            done = subprocess.run(
                command, cwd=place, env=environment, capture_output=True, timeout=self.timeout, check=False
            )
        except subprocess.TimeoutExpired:
            self._fault("hangs", " ".join(arguments))
            return ""
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
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

    def _models(self, place: Path, dice: random.Random) -> None:
        values = ["[" * 100_000, "1e999", "10000000000", "-1", "{}", '"\\ud800"', '"\\u001b]0;x\\u0007"', "null", "true",
                  "[1, 2]", "0.5", '"12"', "NaN", '{"a": {"b": 1}}', "1e-320", "9" * 5000]  # fmt: skip
        keys = ["scale", "multiple", "halo", "tile", "channels", "name", "value_range", "receptive_field", "seam", "pooling",
                "licence", "architecture"]  # fmt: skip
        for index in range(3):
            facts = ['"scale": 1', *(f'"{dice.choice(keys)}": {dice.choice(values)}' for _ in range(2))]
            content = model("{" + ", ".join(facts) + "}")
            (place / f"m{index}.onnx").write_bytes(mutate(content, dice) if dice.random() < 0.4 else content)
            self.counts["hostile models"] += 1
            command = dice.choice([("plan", "--size", "64x48", "--device", "cpu", "--model"), ("inspect",)])
            self._run(place, *command, f"m{index}.onnx")

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
        """States of the file system: what stands where an input, a result, a model or a job is to be."""
        for index, suffix in enumerate(("png", "jpg", "webp")):
            (place / f"good{index}.{suffix}").write_bytes(self._seeds[suffix][0])
        (place / "m.onnx").write_bytes(model())
        (place / "folder.png").mkdir()
        (place / "loop").symlink_to("loop")
        (place / "dangling.png").symlink_to("nowhere.png")
        (place / "file").write_text("x")
        os.mkfifo(place / "fifo.png")
        shut = place / "shut"
        shut.mkdir()
        (shut / "a.png").write_bytes(self._seeds["png"][0])
        shut.chmod(0)
        odd = ["loop", "loop/a.png", "dangling.png", "fifo.png", "folder.png", "shut/a.png", "file/a.png", "-", "~"]
        odd += ["", "b" * 300 + ".png", "漢" * 80 + ".png", "a\x1b]0;x\x07.png", "a\nb.png", "a\udc80.png", "[.png"]
        odd += ["x/" * 2000 + "y.png", "good0.png/", "%s%n.png", "file://a.png"]
        good = [f"good{index}.{suffix}" for index, suffix in enumerate(("png", "jpg", "webp"))]
        for _ in range(4):
            source, target = dice.choice([*odd, *good]), dice.choice([*odd, "out.png", "out/"])
            extra = dice.choice([[], ["--overwrite"], ["--skip-existing"], ["-r"], ["--job", dice.choice(odd) or "j"],
                                 ["--report", dice.choice(odd) or "r"], ["--model", dice.choice(odd) or "m"]])  # fmt: skip
            given = [] if "--model" in extra else ["--model", "m.onnx"]
            self.counts["states of the file system"] += 1
            self._run(place, "enhance", "--device", "cpu", "-q", *given, *extra, "--", source, target)
        shut.chmod(0o700)
        for path in place.rglob(".*.part"):
            self._fault("left", str(path.relative_to(place)))
        for name in good:
            if (place / name).read_bytes() == b"":
                self._fault("unaccounted", f"{name} was emptied")


def main() -> None:
    """Rounds until the time is over; then the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="round to begin with")
    parser.add_argument("--kinds", default="images,models,journals,places")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds of one command")
    parser.add_argument("--keep", type=Path, help="folder for the rounds that showed something")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="sr-tile-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    fuzzer = Fuzzer(folder, arguments.seed, arguments.timeout)
    start, number = time.monotonic(), arguments.first
    while number == arguments.first or time.monotonic() - start < 60 * arguments.minutes:
        fuzzer.round(number, arguments.kinds.split(","))
        number += 1
    if not arguments.keep and not fuzzer.faults:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"rounds {arguments.first} to {number - 1} of seed {arguments.seed}, {time.monotonic() - start:.0f} s")
    for what, count in sorted(fuzzer.counts.items()):
        print(f"{count:8}  {what}")
    print(", ".join(f"{kind} {fuzzer.faults[kind]}" for kind in FAULTS))
    sys.exit(bool(fuzzer.faults))


if __name__ == "__main__":
    main()
