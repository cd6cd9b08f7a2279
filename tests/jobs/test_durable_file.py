"""Giants and files of several pictures that were stopped go on where they were."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.jobs import ShadingEngine, StoppedError, enhancer, lines, run
from support.toys import noise_image

from sr_tile.errors import ImageReadError
from sr_tile.images import ImageInfo, TargetSize
from sr_tile.jobs import durable_file
from sr_tile.jobs.selection import FilePair
from sr_tile.jobs.strip_store import StripFile, StripStore


@pytest.fixture
def small_giants(monkeypatch):
    monkeypatch.setattr(durable_file, "GIANT_PIXELS", 10_000)
    monkeypatch.setattr(durable_file, "STRIP_PIXELS", 4_000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_giant_stopped_anywhere_goes_on_behind_its_last_strip(tmp_path, monkeypatch, small_giants, dtype):
    monkeypatch.chdir(tmp_path)
    from sr_tile.images import ImageInfo, ImageWriter

    image = noise_image(150, 33, 4, dtype)
    with ImageWriter("giant.png", ImageInfo(150, 33, 4, np.dtype(dtype))) as writer:
        writer.write_rows(image)
    enhancer().enhance_file("giant.png", "expected.png")
    for stop_at, least in ((0, 0), (3, 0), (6, 0), (9, 1), (12, 2), (15, 2)):
        pairs = [FilePair("giant.png", f"out{stop_at}.png")]
        folder = f"job{stop_at}"
        # What follows the last journalled strip is lost, as when the process is killed.
        with pytest.raises(StoppedError):
            run(folder, pairs, enhancer(ShadingEngine(stop_at, f"{folder}/strips", least)))
        kept = lines(folder, "strip")
        assert len(kept) >= least - 1, "a strip is there before the journal says so"
        assert run(folder, pairs)["giant.png"].status == "done"
        assert Path(f"out{stop_at}.png").read_bytes() == Path("expected.png").read_bytes()
        rows = [(line["first"], line["end"]) for line in lines(folder, "strip")]
        assert rows[: len(kept)] == [(line["first"], line["end"]) for line in kept]
        assert [row for first, end in rows for row in range(first, end)] == list(range(rows[-1][1])), (
            "a strip came twice, or was left out"
        )
        assert not list((Path(folder) / "strips").iterdir())


def pages(path, width=21):
    tifffile.imwrite(path, noise_image(40, 33, seed=0), photometric="rgb")
    for page in (noise_image(60, width, seed=1), noise_image(50, 33, 4, np.uint16), noise_image(30, 30, seed=3)):
        tifffile.imwrite(path, page, photometric="rgb", append=True, extrasamples=[2] * (page.shape[2] == 4))


def animation(path):
    frames = [Image.fromarray(noise_image(40, 33, 4, seed=index)) for index in (0, 1, 1, 2, 3)]
    options = {} if path.endswith("gif") else {"lossless": True} if path.endswith("webp") else {"quality": 90}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 80, 120, 40, 40], **options)


@pytest.mark.parametrize("stop_at", [0, 3, 9, 14, 18])
@pytest.mark.parametrize(
    ("name", "make"), [("a.tif", pages), ("a.gif", animation), ("a.png", animation), ("a.webp", animation)]
)
def test_pages_and_frames_stopped_anywhere_are_computed_once(tmp_path, monkeypatch, name, make, stop_at):
    monkeypatch.chdir(tmp_path)
    make(name)
    enhancer().enhance_file(name, f"expected-{name}")
    pairs = [FilePair(name, f"out-{name}")]
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(stop_at, "job/strips", stop_at // 7)))
    kept = lines("job", "strip")
    assert len(kept) >= stop_at // 7 - 1, "a picture is there before the journal says so"
    worker = ShadingEngine()
    assert run("job", pairs, enhancer(worker))[name].status == "done"
    assert Path(f"out-{name}").read_bytes() == Path(f"expected-{name}").read_bytes()
    assert len(lines("job", "strip")) == 4, "a picture was computed twice"
    assert len(worker.shapes) < 20 or not kept
    assert not list(Path("job/strips").iterdir())


def test_pages_of_another_size_go_on_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages("a.tif", 60)
    size, pairs = TargetSize(width=50), [FilePair("a.tif", "out.tif")]  # the second page is only reduced
    enhancer(size=size).enhance_file("a.tif", "expected.tif")
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(15, "job/strips", 1), size=size))
    kept = len(lines("job", "strip"))
    assert run("job", pairs, enhancer(size=size))["a.tif"].status == "done"
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()
    assert 0 < kept < 3 == len(lines("job", "strip"))


def test_a_picture_of_which_a_strip_was_damaged_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages("a.tif")
    enhancer().enhance_file("a.tif", "expected.tif")
    with pytest.raises(StoppedError):
        run("job", [FilePair("a.tif", "out.tif")], enhancer(ShadingEngine(20, "job/strips", 2)))
    kept = sorted(Path("job/strips").rglob("*-*"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    assert run("job", [FilePair("a.tif", "out.tif")])["a.tif"].status == "done"
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()


def test_a_page_that_is_broken_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages("a.tif")
    with tifffile.TiffFile("a.tif") as file:
        offset = file.pages[1].tags["Compression"].valueoffset
    content = bytearray(Path("a.tif").read_bytes())
    content[offset : offset + 2] = b"\x39\x30"  # no compression that there is
    Path("a.tif").write_bytes(content)
    pairs = [FilePair("a.tif", "out.tif")]
    assert run("job", pairs)["a.tif"].status == "failed"
    again = ShadingEngine()
    assert "page 2" in run("job", pairs, enhancer(again), retry_failed=True)["a.tif"].error
    assert not again.shapes


@pytest.fixture
def killed_giant(photos, small_giants):
    """The strips of a giant that was stopped midway, in their order, and what goes on with it to the very same result."""
    Image.fromarray(noise_image(150, 33)).save("giant.png")
    enhancer().enhance_file("giant.png", "expected.png")
    pairs = [FilePair("giant.png", "out.png")]
    with pytest.raises(StoppedError):
        run("job", pairs, enhancer(ShadingEngine(12, "job/strips", 2)))

    def go_on():
        assert run("job", pairs)["giant.png"].status == "done"
        assert Path("out.png").read_bytes() == Path("expected.png").read_bytes()

    strips = sorted(Path("job/strips").rglob("*-*"), key=lambda path: int(path.name.split("-")[0]))
    assert len(strips) > 1
    return strips, go_on


def test_a_lost_block_is_computed_again(killed_giant):
    strips, go_on = killed_giant
    strips[1].unlink()
    go_on()


@pytest.mark.parametrize("damage", ["cut", "longer", "changed", "empty", "checksum"])
def test_a_damaged_block_is_computed_again(killed_giant, damage):
    (strip, *_), go_on = killed_giant
    content = bytearray(strip.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    elif damage == "checksum":
        content[-1] ^= 1
    strip.write_bytes({"cut": content[:-7], "longer": content + b"x", "empty": b""}.get(damage, content))
    go_on()


def test_a_block_that_is_damaged_while_it_is_read_is_no_result(tmp_path):
    store = StripStore(tmp_path / "strips", ImageInfo(8, 5, 3, np.dtype(np.uint8)), np.dtype(np.uint8))
    strip = StripFile(store, 2)
    pixels = noise_image(6, 5)
    strip.write(pixels[:4])
    strip.write(pixels[4:])
    strip.finish()
    np.testing.assert_array_equal(np.concatenate(list(store.read(2, 8))), pixels)
    path = store.path(2, 8)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ImageReadError, match="changed since"):
        list(store.read(2, 8))
