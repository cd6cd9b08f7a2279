"""Animations in and out, against Pillow; and which file holds several pictures."""

import struct

import numpy as np
import pytest
from PIL import Image
from support.image_files import names
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError, OutOfMemoryError
from sr_tile.images import WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.frames.open_frames import open_frames
from sr_tile.images.png_chunks import chunk, read_png
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.whole_images import WholeImages

DELAYS = [100, 200, 300, 40]
KINDS = ("gif", "png", "webp", "avif")


def moving_frames(count=4):
    """Each an integer ramp in 12 colours, moved along, which a palette holds exactly."""
    ramp = np.add.outer(np.arange(24), np.arange(36)) % 12 * 20
    return [Image.fromarray(np.roll(ramp, 5 * k, 1).astype(np.uint8)).convert("RGB") for k in range(count)]


def save(path, frames, **options):
    exact = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}.get(path.suffix[1:], {})
    timing = {"duration": DELAYS[: len(frames)], "loop": 3}
    frames[0].save(path, save_all=True, append_images=frames[1:], **exact, **timing, **options)


def shown(path):
    """(frames, their milliseconds, loop) as Pillow composes them."""
    with Image.open(path) as image:
        frames, delays = [], []
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            frames.append(np.asarray(image.convert("RGBA")))
            delays.append(round(image.info["duration"]))
        return np.stack(frames), delays, image.info.get("loop")


def enhance(source, target, scale=2, **keywords):
    with Enhancer(ToyEngine(ModelSpec("toy", scale, 1))) as enhancer:
        enhancer.enhance_file(source, target, **keywords)
        return enhancer.stats


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_every_animation_into_every_other_keeps_frames_and_times(tmp_path, source, target):
    save(tmp_path / f"a.{source}", moving_frames())
    options = WriteOptions(lossless=target == "webp", quality=100 if target == "avif" else 95)
    enhance(tmp_path / f"a.{source}", tmp_path / f"b.{target}", options=options)
    before, delays, loop = shown(tmp_path / f"a.{source}")
    after, delays_after, loop_after = shown(tmp_path / f"b.{target}")
    tolerance = {"avif": 6, "gif": 6 if source == "avif" else 0}.get(target, 0)
    np.testing.assert_allclose(after.astype(int), before.repeat(2, 1).repeat(2, 2), atol=tolerance)
    assert delays_after == delays == DELAYS
    if "avif" not in (source, target) and source == target:
        assert loop_after == loop
    assert names(tmp_path) == sorted({f"a.{source}", f"b.{target}"})


def test_frames_that_memory_does_not_hold_are_refused(tmp_path):
    save(tmp_path / "a.gif", moving_frames())
    with Enhancer(ToyEngine(ModelSpec("toy", 2, 1))) as enhancer:
        for room, fails in ((100_000_000, False), (10_000, True)):
            enhancer._pipeline.whole_images = WholeImages(room)
            if fails:
                with pytest.raises(OutOfMemoryError, match="as a whole"):
                    enhancer.enhance_file(tmp_path / "a.gif", tmp_path / "c.png")
            else:
                enhancer.enhance_file(tmp_path / "a.gif", tmp_path / "b.png")
    assert names(tmp_path) == ["a.gif", "b.png"]


@pytest.mark.parametrize(("target", "rows"), [("webp", 16_383), ("gif", 65_535)])
def test_frames_are_not_bounded_by_the_side_of_one_picture(tmp_path, target, rows):
    """libvips gets them one below the other, all of which together are higher than the format's pictures may be."""
    frames = [Image.fromarray(np.full((rows // 30 + 1, 8), k * 8, np.uint8)).convert("RGB") for k in range(31)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=40)
    enhance(tmp_path / "a.png", tmp_path / f"b.{target}", scale=1, options=WriteOptions(lossless=True))
    np.testing.assert_array_equal(shown(tmp_path / f"b.{target}")[0], shown(tmp_path / "a.png")[0])


def test_equal_neighbours_are_computed_once_and_shown_as_long(tmp_path):
    frames = moving_frames(2)
    image = Image.new("RGB", frames[0].size)
    frames = [image, frames[0], frames[0].copy(), frames[1]]
    save(tmp_path / "a.webp", frames, allow_mixed=False, kmin=1, kmax=1)
    stats = enhance(tmp_path / "a.webp", tmp_path / "b.png")
    with Image.open(tmp_path / "a.webp") as image:
        stored = image.n_frames  # Pillow's writer merges equal frames, too
    _, delays, _ = shown(tmp_path / "b.png")
    assert sum(delays) == sum(DELAYS)
    assert stats.images == 3 <= stored


def test_transparency_is_kept_and_what_is_opaque_has_no_alpha(tmp_path):
    clear = [frame.convert("RGBA") for frame in moving_frames(3)]
    for frame in clear:
        frame.paste((0, 0, 0, 0), (3, 4, 9, 12))
    save(tmp_path / "clear.png", clear)
    enhance(tmp_path / "clear.png", tmp_path / "out.webp", options=WriteOptions(lossless=True))
    after, _, _ = shown(tmp_path / "out.webp")
    assert (after[:, 16:20, 12:14, 3] == 0).all()
    assert (after[:, 40:, 30:, 3] == 255).all()
    save(tmp_path / "opaque.gif", moving_frames(3))
    enhance(tmp_path / "opaque.gif", tmp_path / "second.jpg", excerpt=Excerpt("2"))  # JPEG has no alpha


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "avif", "tif"])
def test_frames_of_a_size_of_ones_own(tmp_path, kind):
    save(tmp_path / "a.png", moving_frames())
    with Enhancer(ToyEngine(ModelSpec("toy", 2, 1)), scale=1.5) as enhancer:
        enhancer.enhance_file(tmp_path / "a.png", tmp_path / f"b.{kind}")
    with Image.open(tmp_path / f"b.{kind}") as image:
        assert (image.size, image.n_frames) == ((54, 36), 4)


def test_a_chosen_frame_is_a_picture(tmp_path):
    save(tmp_path / "a.gif", moving_frames())
    enhance(tmp_path / "a.gif", tmp_path / "b.png", excerpt=Excerpt("3"))
    with Image.open(tmp_path / "b.png") as image:
        assert getattr(image, "n_frames", 1) == 1
        before, _, _ = shown(tmp_path / "a.gif")
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), before[2].repeat(2, 0).repeat(2, 1))


def test_frames_of_an_animation_into_pages_and_not_the_other_way(tmp_path):
    save(tmp_path / "a.gif", moving_frames())
    enhance(tmp_path / "a.gif", tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert image.n_frames == 4
    for target, reason in (("c.webp", "no animation"), ("c.jpg", "holds one picture")):
        with pytest.raises(ImageWriteError, match=reason):
            enhance(tmp_path / "b.tif", tmp_path / target)
    assert names(tmp_path) == ["a.gif", "b.tif"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_animation_fails_and_leaves_nothing(tmp_path, kind):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in range(4)]
    save(tmp_path / f"a.{kind}", noise)
    whole = (tmp_path / f"a.{kind}").read_bytes()
    (tmp_path / f"a.{kind}").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ImageReadError, match=rf"a\.{kind}"):
        enhance(tmp_path / f"a.{kind}", tmp_path / f"b.{kind}")
    assert names(tmp_path) == [f"a.{kind}"]


def test_one_picture_is_no_animation(tmp_path):
    for kind in KINDS:
        moving_frames(1)[0].save(tmp_path / f"a.{kind}")
        assert open_frames(tmp_path / f"a.{kind}") is None
        with pytest.raises(ImageReadError, match="holds one page"):
            open_frames(tmp_path / f"a.{kind}", Excerpt("2"))


@pytest.mark.parametrize(
    ("text", "indices"), [("1", [0]), ("2-4", [1, 2, 3]), (" 3 , 1 ", [0, 2]), ("1-3,2-4", [0, 1, 2, 3])]
)
def test_page_ranges(tmp_path, text, indices):
    assert Excerpt(text).indices(tmp_path, 4) == indices


@pytest.mark.parametrize("text", ["", "0", "3-1", "a", "1,", "1-", "-2", "1.5"])
def test_odd_page_ranges_are_refused(text):
    with pytest.raises(ArgumentError, match="--pages"):
        Excerpt(text)


@pytest.mark.parametrize("kind", [*KINDS, "tif"])
def test_whatever_is_damaged_in_a_file_is_an_error_of_that_file(tmp_path, kind):
    save(tmp_path / f"a.{kind}", moving_frames())
    whole, rng = (tmp_path / f"a.{kind}").read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        mutant = bytearray(whole)
        for _ in range(4):
            mutant[rng.integers(0, min(400, len(whole)))] = rng.integers(0, 256)
        (tmp_path / f"a.{kind}").write_bytes(mutant)
        try:
            reader = open_frames(tmp_path / f"a.{kind}")
            for frame in reader.frames() if reader else ():
                frame.open_source().read_rows(1000)
        except ImageReadError:
            continue


def test_colours_of_an_animation_keep_their_meaning(tmp_path):
    save(tmp_path / "a.png", moving_frames())
    data = (tmp_path / "a.png").read_bytes()
    said = {b"cICP": bytes([9, 16, 0, 1]), b"gAMA": struct.pack(">I", 100_000), b"cLLI": bytes(8)}
    (tmp_path / "a.png").write_bytes(data[:33] + b"".join(chunk(*each) for each in said.items()) + data[33:])
    enhance(tmp_path / "a.png", tmp_path / "b.png")
    header = read_png(tmp_path / "b.png")
    assert header.frames == 4
    assert header.cicp == (9, 16, 0, 1)
    assert dict(header.colour) == {b"gAMA": said[b"gAMA"], b"cLLI": said[b"cLLI"]}


def gif(screen, frames):
    """A GIF whose frames lie at (x, y) and may reach beyond the screen; its codes clear the table before each pixel."""
    height, width = screen
    palette = bytes(np.random.default_rng(0).integers(0, 256, 3 * 128).astype(np.uint8))
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF6, 0, 0) + palette
    for (x, y), index_hw in frames:
        codes = np.array([code for value in index_hw.reshape(-1) for code in (128, value)] + [129])
        bits = ((codes[:, None] >> np.arange(8)) & 1).astype(np.uint8)
        raw = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
        blocks = b"".join(bytes([len(raw[k : k + 255])]) + raw[k : k + 255] for k in range(0, len(raw), 255))
        out += b"\x21\xf9\4\4\x0a\0\0\0" + b"," + struct.pack("<HHHHB", x, y, *index_hw.shape[::-1], 0)
        out += b"\7" + blocks + b"\0"
    return out + b";", np.frombuffer(palette, np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("place", [(0, 0), (10, 5)])
@pytest.mark.parametrize("target", ["b.gif", "b.png", "b.webp"])
def test_what_frames_show_beyond_the_screen_is_cut_as_browsers_do(tmp_path, place, target):
    index = np.random.default_rng(1).integers(0, 128, (40, 50))
    data, palette = gif((20, 30), [((0, 0), index[20:, :30]), (place, index), ((0, 0), index[20:, 20:])])
    (tmp_path / "a.gif").write_bytes(data)
    enhance(tmp_path / "a.gif", tmp_path / target, scale=1, options=WriteOptions(lossless=target == "b.webp"))
    x, y = place
    second = index[20:, :30].copy()
    second[y:, x:] = index[: 20 - y, : 30 - x]
    expected = [palette[each] for each in (index[20:, :30], second, index[20:, 20:])]
    frames = [frame[..., :3] for frame in shown(tmp_path / target)[0]]
    assert len(frames) == 3
    for frame, wanted in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame, wanted)


def test_a_film_of_avif_without_a_still_picture_is_read(tmp_path):
    frames = moving_frames()
    save(tmp_path / "a.avif", frames)
    data = (tmp_path / "a.avif").read_bytes()
    assert data.count(b"pitm") == 1
    (tmp_path / "a.avif").write_bytes(data.replace(b"pitm", b"skip"))
    enhance(tmp_path / "a.avif", tmp_path / "b.png", scale=1)
    assert len(shown(tmp_path / "b.png")[0]) == len(frames)
