import itertools
import subprocess
import sys

import numpy as np
import pytest

from sr_tile.images import vips

# A decoder that stopped midway, in a cycle with its error, is freed inside of whatever allocates next: here on purpose,
# while a warning of libvips is being handled.
HALF_READ = """
import gc, logging, sys
{first}
from sr_tile.errors import SrTileError
from sr_tile.images import ImageReader
{second}
class Collect(logging.Handler):
    def emit(self, record):
        gc.collect()
logging.getLogger("pyvips").addHandler(Collect())
logging.getLogger("pyvips").setLevel(logging.DEBUG)
for count in range(12):
    kept = []
    try:
        kept += [reader := ImageReader(sys.argv[1]), kept]
        reader.read_rows(50)
    except SrTileError as error:
        message = str(error)
    del kept
    reader = None
print(message)
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", "import pyvips"),
        pytest.param("import pyvips", "", marks=pytest.mark.slow),
        pytest.param("import PIL.Image", "", marks=pytest.mark.slow),
    ],
)
def test_damaged_files_never_end_the_process_and_print_nothing_in_any_order_of_imports(tmp_path, first, second):
    from support.encoded_images import encoded

    good = encoded("jpeg")
    path = tmp_path / "a.jpg"
    at = good.index(b"\xff\xda") + 100
    path.write_bytes(good[:at] + b"\xff\xd5" + good[at:])  # a marker among the pixels: a warning
    code = HALF_READ.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Corrupt JPEG data" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", pytest.param("avif", marks=pytest.mark.slow)])
def test_a_damaged_header_is_an_error_of_its_file_whatever_parser_meets_it(tmp_path, kind):
    """Bytes of the first ones set to extremes, and boxes or chunks called otherwise."""
    from support.encoded_images import encoded

    from sr_tile.errors import ImageReadError
    from sr_tile.images import ImageReader

    good = encoded(kind)
    path = tmp_path / "a"
    failed = 0
    for at, fault in zip(range(0, min(len(good), 400), 3), itertools.cycle((b"\xff\xff", b"\0", b"zz")), strict=False):
        path.write_bytes(good[:at] + fault + good[at + len(fault) :])
        try:
            with ImageReader(path) as reader:
                reader.read_rows(reader.info.height)
        except ImageReadError:
            failed += 1
    assert failed > 10


def test_a_reason_that_is_no_text_is_an_error_of_libvips_all_the_same():
    def fail():
        b"reason \xff".decode()  # as pyvips does with what libvips says

    with pytest.raises(vips.vips().Error, match="cannot be read"):
        vips.attempt(fail, fail)


CUT_SHORT = """
import os, sys
from sr_tile.errors import SrTileError
from sr_tile.images import ImageReader
reader = ImageReader(sys.argv[1])
try:
    reader.read_rows(8)
    os.truncate(sys.argv[1], 1000)
    while reader.rows_left:
        reader.read_rows(min(64, reader.rows_left))
except SrTileError as error:
    print(type(error).__name__)
print("alive")
"""


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "avif", "gif", "bmp"])
def test_a_file_that_is_cut_short_while_it_is_read_does_not_end_the_process(tmp_path, kind):
    """What is mapped into memory ends it by SIGBUS, beyond the new end."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    path = tmp_path / f"a.{kind}"
    Image.fromarray(pixels).save(path, **({"quality": 100} if kind in ("jpeg", "webp", "avif") else {}))
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("alive\n")


CUT_BEFORE_CONVERSION = """
import os, sys
from PIL import Image
from sr_tile.images import ImageReader
convert = Image.Image.convert
def cut(image, *arguments):
    image.load()
    os.truncate(sys.argv[1], 60)
    return convert(image, *arguments)
Image.Image.convert = cut
print(ImageReader(sys.argv[1]).read_rows(600).mean() > 100)
"""


@pytest.mark.parametrize("kind", ["bmp", "tga", "pgm"])
def test_what_pillow_would_map_is_read(tmp_path, kind):
    from PIL import Image

    path = tmp_path / f"a.{kind}"
    Image.fromarray(np.full((600, 800), 200, np.uint8)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", CUT_BEFORE_CONVERSION, path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
