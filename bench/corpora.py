"""Every file of a folder through an identity model, against independent decoders: what is equal, refused, wrong, or crashes.

    python bench/corpora.py FOLDER [--list]

Meant for collections of odd files, such as the test images of Pillow, libvips, libpng, libavif, libwebp and image-tiff.
The decoders are Pillow, OpenCV and tifffile; a file is equal where one of them gives the same, in all its frames.
Every file is done in a process of its own kind: one that dies or hangs is counted, and the rest goes on.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT = 120  # seconds for one file
TOLERANCE = 3  # of 255: decoders of JPEG and AVIF differ in how they round
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"}
MOST_PIXELS, MOST_FRAMES = 2**26, 40
NO_REFERENCE = ("F", "I", "CMYK")  # where Pillow's own conversion is none

BAD = re.compile(
    r"unable to (call|fetch|open)|cannot identify|vips|libpng read error|labq|bad seek|broken data stream|/tmp/"
    r"|required field|truncated or damaged, or a variant|KeyError|not an image, or|scanline 4294967295|tile cannot extend"
)
"""Words of libraries, and reasons that leave open what is wrong; with them a refusal has a bad reason."""

NAMED = re.compile(
    r" is not supported: (convert|save)|are not supported|not an image of a known format|integers|CMYK are supported"
    r"|damaged|ends? (early|within|after)|decoded as a whole"
)
"""Refusals that docs/formats.md names: true where the file is what the reason says."""


def identity(path: Path) -> Path:
    """A model that gives back what it gets."""
    import onnx
    from onnx import TensorProto, helper

    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def as_rgba(pixels: np.ndarray) -> np.ndarray | None:
    """8-bit (height, width, 4) of gray, gray and alpha, RGB, RGBA; None of anything else."""
    if pixels.dtype.kind == "f":
        pixels = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    elif pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        return None
    colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3]
    alpha = pixels[..., -1:] if pixels.shape[2] in (2, 4) else np.full_like(pixels[..., :1], 255)
    return np.concatenate([np.broadcast_to(colours, (*pixels.shape[:2], 3)), alpha], 2)


def by_pillow(path: Path) -> tuple[list[np.ndarray], str]:
    """(the pixels of each frame, what Pillow calls the file); nothing where Pillow is no reference or refuses it."""
    from PIL import Image, ImageFile

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    kind = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    return [], ""
                count = getattr(image, "n_frames", 1) if image.format not in ("MPO", "PSD") else 1
                first = int(bool(image.info.get("default_image")))
                image.load()
                depth = path.read_bytes()[24]  # of a PNG
                kind = f"{image.format} {image.mode}" + (f" {count - first} frames" if count - first > 1 else "")
                return [_frame(image, index, depth) for index in range(first, min(count, MOST_FRAMES + first))], kind
    except ValueError as error:
        return [], kind if str(error) == "no reference" else ""
    except Exception:
        return [], kind


def _frame(image: Any, index: int, depth: int) -> np.ndarray:
    from PIL import ImageCms, ImageOps

    if index:
        image.seek(index)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    if image.mode in NO_REFERENCE:
        raise ValueError("no reference")
    key = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and isinstance(key, int):  # Pillow compares it before it scales
        image.info["transparency"] = key * 255 // (2 ** min(depth, 8) - 1)
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I;16"):
        gray = np.asarray(turned).astype(np.uint16)
        alpha = np.where(gray == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else np.full_like(gray, 65535)
        return as_rgba(np.dstack([gray, alpha]))
    return np.array(turned.convert("RGBA"))


def by_opencv(path: Path) -> Iterator[list[np.ndarray]]:
    """The pixels as OpenCV has them, with what EXIF turns and without."""
    import cv2

    for flags in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH):
        try:
            pixels = cv2.imread(str(path), flags)
        except cv2.error:
            continue
        if pixels is not None and pixels.dtype.kind in "uf":
            channels = 1 if pixels.ndim == 2 else pixels.shape[2]
            swapped = pixels[..., [2, 1, 0, 3][:channels]] if channels > 2 else pixels
            if (rgba := as_rgba(swapped)) is not None:
                yield [rgba]


def by_tifffile(path: Path) -> Iterator[list[np.ndarray]]:
    """The first page of a TIFF of gray or RGB as tifffile has it; colours of a palette as its map says."""
    import tifffile

    try:
        page = tifffile.TiffFile(path).pages[0]
        pixels = page.asarray()
    except Exception:
        return
    if page.planarconfig == 2 and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric == 3:
        pixels = np.moveaxis(page.colormap, 0, -1)[pixels]
    elif page.photometric not in (0, 1, 2) or page.tags.valueof(274, 1) != 1:
        return
    if (
        pixels.dtype.kind == "u"
        and isinstance(page.bitspersample, int)
        and page.bitspersample < 8 * pixels.dtype.itemsize
    ):
        top = 2**page.bitspersample - 1
        pixels = np.rint(pixels.astype(float) * 65535 / top).astype(np.uint16)
    if page.photometric == 0 and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if pixels.ndim == 3 and 1 in page.extrasamples and pixels.dtype.kind == "u":
        alpha = np.maximum(pixels[..., -1:].astype(float), 1)
        divided = np.rint(pixels[..., :-1] * float(np.iinfo(pixels.dtype).max) / alpha)
        top = np.iinfo(pixels.dtype).max
        pixels = np.concatenate([np.clip(divided, 0, top).astype(pixels.dtype), pixels[..., -1:]], 2)
    if (rgba := as_rgba(pixels)) is not None:
        yield [rgba]


def compared(frames: list[np.ndarray], expected: list[np.ndarray], kind: str) -> str | None:
    """Why two decoders differ; None where they do not."""
    if kind.startswith("GIF") and frames:  # browsers cut what Pillow makes room for
        expected = [frame[: frames[0].shape[0], : frames[0].shape[1]] for frame in expected]
    frames, expected = _without_repeats(frames), _without_repeats(expected)
    if len(frames) != len(expected):
        return f"{len(frames)} frames in place of {len(expected)}"
    for index, (ours, theirs) in enumerate(zip(frames, expected, strict=True)):
        if ours.shape != theirs.shape:
            return f"{ours.shape} in place of {theirs.shape}"
        seen = np.maximum(ours[..., 3], theirs[..., 3]) > 0
        if kind.startswith("TIFF RGBA"):  # where the file holds products, faint alpha leaves few digits of its colours
            ours, theirs = (
                np.dstack([each[..., :3].astype(int) * each[..., 3:] // 255, each[..., 3:]]) for each in (ours, theirs)
            )
        difference = np.abs(ours.astype(int) - theirs)
        largest = max(int(difference[seen].max(initial=0)), int(difference[..., 3].max(initial=0)))
        lossy = kind.split()[0] in LOSSY if kind else True
        allowed = 10 if kind == "TIFF LAB" else TOLERANCE if lossy else 1  # LittleCMS works with tables of 8 bits there
        if largest > allowed and not (kind.startswith("AVIF") and same_but_for_chroma(ours, theirs)):
            return f"frame {index + 1}: off by up to {largest} of 255"
    return None


def _without_repeats(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Frames that differ from the one before; colours that are not seen do not count."""
    frames = [np.where(frame[..., 3:] > 0, frame, 0) for frame in frames]
    return [frame for before, frame in zip([None, *frames], frames, strict=False) if not np.array_equal(before, frame)]


def same_but_for_chroma(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two pictures have the same luma, and the same chroma in cells of 2 x 2: it was enlarged in two ways."""
    height, width = (n // 2 * 2 for n in ours.shape[:2])
    difference = ours[:height, :width, :3].astype(float) - theirs[:height, :width, :3]
    luma = np.abs(difference @ (0.299, 0.587, 0.114))
    cells = np.abs(difference.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)))
    return bool(np.quantile(luma, 0.99) <= 6 and cells.mean() < 3)


def verdict(source: Path, folder: Path, enhancer: Any) -> tuple[str, str]:
    """(what became of a file, details)."""
    from sr_tile.errors import SrTileError
    from sr_tile.images.content_type import READ_ONLY

    expected, kind = by_pillow(source)
    pages = kind.startswith("TIFF") or source.suffix.lower() in (".tif", ".tiff")
    for target in ("result.png", "result.tif"):  # pages are written to a TIFF only
        try:
            (folder / target).unlink(missing_ok=True)
            enhancer.enhance_file(source, folder / target, overwrite=True)
            break
        except SrTileError as error:
            reason = str(error).replace(str(source), source.name)
            if pages and "pages are no animation" in reason and target == "result.png":
                continue
            if "\n" in reason or len(reason) > 500:
                return "traceback", f"a message of several lines: {reason!r}"
            if BAD.search(reason.replace(source.name, "")):
                return "refused, bad reason", f"[{kind}] {reason}"
            named = not kind or NAMED.search(reason)
            return ("refused, good reason" if named else "refused though opened by Pillow"), f"[{kind}] {reason}"
        except Exception:
            return "traceback", traceback.format_exc()
    result, readable = by_pillow(folder / target)
    if readable and not result:
        return "done, no reference", f"[{kind}] floats"
    if not result:
        return "wrong", f"[{kind}] the result cannot be read"
    if source.suffix.lower() in READ_ONLY["raw"] or b"clap" in source.read_bytes()[:4096]:
        return "done, no reference", f"[{kind}] developed or cropped, which the others do not do"
    reasons = [compared(result, expected, kind)] if expected else []
    # OpenCV knows no profiles of CMYK, and reads masks of BMP that it does not know as others
    if reasons != [None] and not kind.endswith("CMYK") and (kind or source.suffix != ".bmp"):
        others = [*by_opencv(source), *(by_tifffile(source) if pages else [])]
        reasons += [compared(result[:1], other, kind) for other in others]
    if not reasons:
        return "done, no reference", f"[{kind}]"
    return ("equal", f"[{kind}]") if None in reasons else ("wrong", f"[{kind}] {'; '.join(map(str, reasons))}")


def work(connection: Connection, model: Path, folder: Path) -> None:
    """Do files until there are no more; runs in a process of its own."""
    from sr_tile.enhancer import Enhancer

    with Enhancer(model, device="cpu") as enhancer:
        while (source := connection.recv()) is not None:
            connection.send(verdict(source, folder, enhancer))


class Worker:
    """The process that does the files, started again where it died."""

    def __init__(self, model: Path, folder: Path) -> None:
        self._arguments, self._process = (model, folder), None
        self._context = multiprocessing.get_context("spawn")

    def do(self, source: Path) -> tuple[str, str]:
        """The verdict on a file; `crash` where the process died, `hang` where it did not end."""
        if self._process is None:
            self._connection, other = self._context.Pipe()
            self._process = self._context.Process(target=work, args=(other, *self._arguments), daemon=True)
            self._process.start()
            other.close()
        try:
            self._connection.send(source)
            if self._connection.poll(TIMEOUT):
                return self._connection.recv()
            result = "hang", f"no end after {TIMEOUT} s"
        except (EOFError, OSError):
            result = "crash", "the process died"
        self._process.kill()
        self._process.join()
        self._process = None
        return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--list", action="store_true", help="also name the files that are equal, or refused with reason"
    )
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        worker = Worker(identity(Path(temporary) / "identity.onnx"), Path(temporary))
        for path in sorted(arguments.folder.rglob("*")):
            if not path.is_file() or path.suffix.lower() in (".py", ".txt", ".md", ".rs", ".xml", ".c", ".cc", ".sh"):
                continue
            what, details = worker.do(path)
            counts[what] += 1
            if arguments.list or what not in ("equal", "refused, good reason"):
                print(f"{what}: {path.relative_to(arguments.folder)}: {details}", flush=True)
    print()
    for what, count in counts.most_common():
        print(f"{count:6} {what}")
    sys.exit(1 if counts.keys() & {"crash", "hang", "traceback", "wrong"} else 0)


if __name__ == "__main__":
    main()
