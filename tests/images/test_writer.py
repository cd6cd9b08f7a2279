import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.image_files import SUFFIXES, names, noise, photograph, read, write

from sr_tile.errors import ArgumentError, ImageWriteError
from sr_tile.images import (
    ImageInfo,
    ImageReader,
    ImageWriter,
    WriteOptions,
)


def test_writer_refuses_before_any_work(tmp_path):
    info = ImageInfo(4, 5, 4, np.dtype(np.uint8))
    with pytest.raises(ImageWriteError, match="holds no alpha"):
        ImageWriter(tmp_path / "a.jpg", info)
    for name, side in (("a.jpg", 65_536), ("a.webp", 16_384), ("a.avif", 16_385)):
        with pytest.raises(ImageWriteError, match="at most"):
            ImageWriter(tmp_path / name, ImageInfo(1, side, 3, np.dtype(np.uint8)))
    with pytest.raises(ImageWriteError, match="does not exist"):
        ImageWriter(tmp_path / "no" / "a.png", info)
    with pytest.raises(ImageWriteError, match="is a folder"):
        ImageWriter(tmp_path, info, options=WriteOptions(format="png"), overwrite=True)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("format_name", "side"), [("jpeg", 65_500), ("webp", 16_383), ("avif", 16_384)])
def test_the_largest_sides_can_be_written(tmp_path, format_name, side):
    path = tmp_path / f"a{SUFFIXES[format_name]}"
    write(path, np.full((16, side, 3), 99, np.uint8))
    assert read(path)[0].shape == (16, side, 3)


def test_existing_files_are_safe(tmp_path):
    path, info = tmp_path / "a.png", ImageInfo(4, 5, 3, np.dtype(np.uint8))
    path.write_bytes(b"old")
    with pytest.raises(ImageWriteError, match="exists already"):
        ImageWriter(path, info)
    with pytest.raises(ZeroDivisionError), ImageWriter(path, info, overwrite=True):
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    with ImageWriter(path, info, overwrite=True) as writer:
        writer.write_rows(np.ones((4, 5, 3), np.uint8))
        assert path.read_bytes() == b"old"
    assert (read(path)[0] == 1).all()
    late = tmp_path / "late.png"
    writer = ImageWriter(late, info)
    writer.write_rows(np.ones((4, 5, 3), np.uint8))
    late.write_bytes(b"theirs")
    with pytest.raises(ImageWriteError, match="meanwhile"):
        writer.close()
    assert late.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.png", "late.png"]


@pytest.mark.parametrize("rows", [0, 1, 199])
@pytest.mark.parametrize("format_name", list(SUFFIXES))
def test_unfinished_images_leave_nothing(tmp_path, format_name, rows):
    image_hwc, path = photograph(), tmp_path / f"a{SUFFIXES[format_name]}"
    info = ImageInfo(*image_hwc.shape, image_hwc.dtype)
    writer = ImageWriter(path, info)
    writer.write_rows(image_hwc[:rows])
    with pytest.raises(ImageWriteError, match=f"only {rows} of 200 rows"):
        writer.close()
    with pytest.raises(ImageWriteError, match="closed"):
        writer.write_rows(image_hwc[:1])
    writer = ImageWriter(path, info)
    writer.write_rows(image_hwc[:rows])
    writer.abort()
    writer.abort()
    writer = ImageWriter(path, info)
    del writer
    with ImageWriter(path, info) as writer:
        writer.write_rows(image_hwc)
        with pytest.raises(ArgumentError, match="more than"):
            writer.write_rows(image_hwc[:1])
    assert names(tmp_path) == [path.name]
    assert not [thread for thread in threading.enumerate() if thread.name == "sr-tile-encoder"]


def run(script, *arguments, wait=True):
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return (*process.communicate(timeout=300), process.returncode) if wait else process


@pytest.mark.parametrize("format_name", ["png", "jpeg", "tiff"])
def test_a_killed_process_leaves_no_target(tmp_path, format_name):
    script = """
        import sys, numpy as np
        from sr_tile.images import *
        writer = ImageWriter(sys.argv[1], ImageInfo(60_000, 2000, 3, np.uint8))
        for step in range(900):
            writer.write_rows(np.random.randint(0, 255, (64, 2000, 3), np.uint8))
            print(step, flush=True)
    """
    process = run(script, tmp_path / f"a{SUFFIXES[format_name]}", wait=False)
    for _ in range(8):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert all(name.startswith(".a.") and name.endswith(".part") for name in names(tmp_path))


@pytest.mark.parametrize("format_name", list(SUFFIXES))
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, format_name):
    script = """
        import resource, sys, numpy as np
        from sr_tile.errors import ImageWriteError
        from sr_tile.images import *
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        noise = np.random.default_rng(0).integers(0, 255, (600, 500, 3)).astype(np.uint8)
        try:
            with ImageWriter(sys.argv[1], ImageInfo(600, 500, 3, np.uint8)) as writer:
                for y in range(0, 600, 50):
                    writer.write_rows(noise[y:y + 50])
        except ImageWriteError as error:
            print(error)
    """
    out, err, code = run(script, tmp_path / f"a{SUFFIXES[format_name]}")
    assert (err, code) == ("", 0)
    assert out.count("\n") == 1
    assert "cannot be written" in out
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/version").exists(), reason="needs a place to be refused")
def test_a_folder_that_cannot_be_written_is_an_error():
    with pytest.raises(ImageWriteError, match="cannot be written"):
        ImageWriter("/proc/a.png", ImageInfo(4, 5, 3, np.dtype(np.uint8)))


def test_abort_wakes_a_writer_that_waits(tmp_path):
    writer = ImageWriter(tmp_path / "a.tif", ImageInfo(10**6, 4000, 3, np.dtype(np.uint8)))
    rows_hwc, raised = noise(512, 4000, 3), []

    def push():
        try:
            while True:
                writer.write_rows(rows_hwc)
        except ImageWriteError as error:
            raised.append(error)

    thread = threading.Thread(target=push)
    thread.start()
    time.sleep(0.3)
    writer.abort()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert names(tmp_path) == []


def test_many_at_once_and_rows_from_changing_threads(tmp_path):
    images = {
        tmp_path / f"{index}.{suffix}": noise(101, 67 + index, 3) for index, suffix in enumerate(["png", "tif"] * 4)
    }
    errors = []

    def work(path, image_hwc):
        try:
            write(path, image_hwc, 7)
            np.testing.assert_array_equal(read(path, 5)[0], image_hwc)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=item) for item in images.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    path, image_hwc = next(iter(images.items()))
    parts = []
    with ImageReader(path) as reader:
        while reader.rows_left:
            thread = threading.Thread(target=lambda: parts.append(reader.read_rows(9)))
            thread.start()
            thread.join()
    np.testing.assert_array_equal(np.concatenate(parts), image_hwc)


def test_a_file_written_again_is_read_again(tmp_path):
    for value in (1, 2):
        with ImageWriter(tmp_path / "a.png", ImageInfo(4, 5, 3, np.dtype(np.uint8)), overwrite=True) as writer:
            writer.write_rows(np.full((4, 5, 3), value, np.uint8))
        assert (read(tmp_path / "a.png")[0] == value).all()


def test_no_file_stays_open(tmp_path):
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc")
    write(tmp_path / "a.png", photograph())
    before = len(list(folder.iterdir()))
    for index in range(5):
        write(tmp_path / f"b{index}.png", photograph())
        read(tmp_path / "a.png")
        with pytest.raises(ImageWriteError), ImageWriter(tmp_path / "c.png", ImageInfo(4, 5, 3, np.dtype(np.uint8))):
            pass
    assert len(list(folder.iterdir())) <= before


def test_import_is_lazy():
    out, _, _ = run("import sys, sr_tile.images; print('pyvips' in sys.modules, 'PIL' in sys.modules)")
    assert out.split() == ["False", "False"]


@pytest.mark.slow
@pytest.mark.parametrize(("format_name", "height"), [("png", 20000), ("jpeg", 20000), ("jpeg", 4000), ("tiff", 20000)])
def test_memory_stays_flat(tmp_path, format_name, height):
    script = """
        import re, sys, numpy as np
        from pathlib import Path
        from skimage import data
        from sr_tile.images import *
        rows = np.tile(data.astronaut()[:64], (1, 8, 1))[:, :4000]
        height = int(sys.argv[2])
        with ImageWriter(sys.argv[1], ImageInfo(height, 4000, 3, np.uint8)) as writer:
            for y in range(0, height, 64):
                writer.write_rows(rows[:height - y])
        with ImageReader(sys.argv[1]) as reader:
            while reader.rows_left:
                reader.read_rows(64)
        # Not ru_maxrss, which begins with that of the parent.
        print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
    """
    out, err, code = run(script, tmp_path / f"a{SUFFIXES[format_name]}", height)
    assert (err, code) == ("", 0)
    # MiB; pixels of 20,000 rows take 229, libjpeg's coefficients of 4,000 186, Python with NumPy and libvips some 70.
    assert int(out) < 200
