"""Every file of a folder through an identity model, against Pillow's decoder: what is equal, refused, wrong, or crashes.

    python bench/corpora.py FOLDER [--list]

Meant for collections of odd files, such as the test images of Pillow, libvips, libpng, libavif, libwebp and image-tiff.
Every file is done in a process of its own kind: one that dies or hangs is counted, and the rest goes on.
"""

import argparse
import multiprocessing
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT = 120  # seconds for one file
TOLERANCE = 3  # of 255: decoders of JPEG and AVIF differ in how they round, and in how they enlarge colour
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"}


def identity(path: Path) -> Path:
    """A model that gives back what it gets."""
    import onnx
    from onnx import TensorProto, helper

    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def by_pillow(path: Path) -> tuple[np.ndarray | None, str]:
    """(pixels as 8-bit (height, width, 4), what Pillow calls the file); no pixels where Pillow refuses it.

    Only the first frame; nothing where Pillow's own conversion is no reference (CMYK, Lab, floating point).
    """
    from PIL import Image, ImageFile, ImageOps

    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                kind = f"{image.format} {image.mode}"
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format != "MPO":
                    kind += f" {frames} frames"
                image.load()
                if image.mode in ("F", "I", "LAB", "CMYK"):
                    return None, kind
                turned = ImageOps.exif_transpose(image)
                if turned.mode.startswith("I;16"):
                    gray = np.asarray(turned).astype(np.uint16) >> 8
                    return np.dstack([gray, gray, gray, np.full_like(gray, 255)]).astype(np.uint8), kind
                return np.asarray(turned.convert("RGBA")), kind
    except Exception:
        return None, ""


def verdict(source: Path, target: Path, enhancer: Any) -> tuple[str, str]:
    """(what became of a file, details)."""
    from sr_tile.errors import SrTileError

    expected, kind = by_pillow(source)
    target.unlink(missing_ok=True)
    try:
        enhancer.enhance_file(source, target, overwrite=True)
    except SrTileError as error:
        reason = str(error).replace(str(source), source.name)
        if "\n" in reason or len(reason) > 500:
            return "crash", f"a message of several lines: {reason!r}"
        return ("refused though Pillow opens" if kind else "refused, as by Pillow"), f"[{kind}] {reason}"
    except Exception:
        return "crash", traceback.format_exc()
    result, _ = by_pillow(target)
    if result is None:
        return "wrong", f"[{kind}] the result cannot be read"
    if expected is None:
        return "done without a reference", f"[{kind}]"
    if result.shape != expected.shape:
        return "wrong", f"[{kind}] {result.shape} in place of {expected.shape}"
    largest = int(np.abs(result.astype(int) - expected).max(initial=0))
    allowed = TOLERANCE if kind.split()[0] in LOSSY else 1  # of 16 bits Pillow sees 8
    return ("equal" if largest <= allowed else "wrong"), f"[{kind}] off by up to {largest} of 255"


def work(connection: Connection, model: Path, folder: Path) -> None:
    """Do files until there are no more; runs in a process of its own."""
    from sr_tile.enhancer import Enhancer

    with Enhancer(model, device="cpu") as enhancer:
        while (source := connection.recv()) is not None:
            connection.send(verdict(source, folder / "result.png", enhancer))


class Worker:
    """The process that does the files, started again where it died."""

    def __init__(self, model: Path, folder: Path) -> None:
        self._arguments, self._process = (model, folder), None
        self._context = multiprocessing.get_context("spawn")

    def do(self, source: Path) -> tuple[str, str]:
        """The verdict on a file; `crash` where the process died or hung."""
        if self._process is None:
            self._connection, other = self._context.Pipe()
            self._process = self._context.Process(target=work, args=(other, *self._arguments), daemon=True)
            self._process.start()
            other.close()
        try:
            self._connection.send(source)
            if self._connection.poll(TIMEOUT):
                return self._connection.recv()
            problem = f"no end after {TIMEOUT} s"
        except (EOFError, OSError):
            problem = "the process died"
        self._process.kill()
        self._process.join()
        self._process = None
        return "crash", problem


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", action="store_true", help="also name the files that are equal, or refused by both")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        worker = Worker(identity(Path(temporary) / "identity.onnx"), Path(temporary))
        for path in sorted(arguments.folder.rglob("*")):
            if not path.is_file() or path.suffix.lower() in (".py", ".txt", ".md", ".rs", ".xml", ".c", ".cc", ".sh"):
                continue
            what, details = worker.do(path)
            counts[what] += 1
            if arguments.list or what not in ("equal", "refused, as by Pillow"):
                print(f"{what}: {path.relative_to(arguments.folder)}: {details}", flush=True)
    print()
    for what, count in counts.most_common():
        print(f"{count:6} {what}")
    sys.exit(1 if counts["crash"] or counts["wrong"] else 0)


if __name__ == "__main__":
    main()
