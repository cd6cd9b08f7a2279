"""Films in and out, against PyAV used directly: times, sound, chapters, colours, and going on where it was killed."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from skimage import data
from support.image_files import names
from support.toys import ToyEngine

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError
from sr_tile.images import WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.jobs import durable_file
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import FilePair
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.frame_files import each_file

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'sr-tile[video]'")

TICKS = Fraction(1, 12_800)
MATRICES = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}


def from_array(picture):
    kind = "rgb48le" if picture.dtype == np.uint16 else "rgb24"
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)


def pictures(count, height=48, width=64):
    photo = np.asarray(Image.fromarray(data.astronaut()).resize((160, 160)))
    return [photo[k : k + height, 2 * k : 2 * k + width] for k in range(count)]


def film(path, frames, *, times=None, sound=False, matrix="bt709", full=False, pixels="yuv444p", **options):
    """Write RGB pictures; times in ticks, 25 a second where nothing is said."""
    codec = options.pop("codec", "libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "1", **options} if codec != "ffv1" else {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        context = stream.codec_context
        stream.time_base = context.time_base = TICKS
        context.colorspace, context.color_range = MATRICES[matrix], 2 if full else 1
        context.color_primaries = context.color_trc = MATRICES[matrix]
        if sound:
            voice = container.add_stream("aac", rate=48_000, layout="mono")
            voice.metadata["language"] = "deu"
        for index, picture in enumerate(frames):
            frame = from_array(picture).reformat(
                format=pixels, dst_colorspace={1: 1, 6: 5, 9: 9}[MATRICES[matrix]], dst_color_range=2 if full else 1
            )
            frame.pts, frame.time_base = times[index] if times else index * 512, TICKS
            container.mux(stream.encode(frame))
        if sound:
            wave = (np.sin(np.arange(48_000 * len(frames) // 25) / 20) * 9000).astype(np.int16)[None]
            tone = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            tone.sample_rate, tone.pts, tone.time_base = 48_000, 0, Fraction(1, 48_000)
            for part in (*voice.encode(tone), *voice.encode(None)):
                container.mux(part)
            chapter = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
            container.set_chapters([chapter])
        container.mux(stream.encode(None))


def decoded(path):
    """(times in seconds, RGB pictures by FFmpeg's own conversion with the file's matrix and range)."""
    with av.open(str(path)) as container:
        times, found = [], []
        for frame in container.decode(video=0):
            times.append(frame.pts * frame.time_base)
            found.append(frame.to_ndarray(format="rgb48le" if "10" in frame.format.name else "rgb24"))
        return times, np.stack(found).astype(int)


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]


def enhance(source, target, scale=2, engine=None, **keywords):
    with Enhancer(engine or ToyEngine(ModelSpec("toy", scale, 1))) as enhancer:
        enhancer.enhance_file(source, target, **keywords)
        return enhancer.stats


@pytest.mark.parametrize("target", ["b.mp4", "b.mov", "b.mkv"])
def test_times_sound_and_chapters_are_those_of_the_source(tmp_path, target):
    times = [0, 512, 700, 1500, 5000, 5512, 9000, 9001, 12000, 20000]  # no constant rate
    film(tmp_path / "a.mp4", pictures(10), times=times, sound=True)
    enhance(tmp_path / "a.mp4", tmp_path / target)
    before, after = decoded(tmp_path / "a.mp4")[0], decoded(tmp_path / target)[0]
    if target.endswith(".mkv"):  # milliseconds, from the first sound on
        assert np.ptp([float(b - a) for b, a in zip(before, after, strict=True)]) <= 0.001
    else:
        assert before == after
    old, new = (packets(tmp_path / name, "audio") for name in ("a.mp4", target))
    assert [data for _, data in old] == [data for _, data in new]
    with av.open(str(tmp_path / target)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One"]
        assert target == "b.mov" or container.streams.audio[0].metadata["language"] == "deu"  # MOV has numbers for some
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (96, 128)
    assert names(tmp_path) == sorted(["a.mp4", target])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_keep_their_matrix_and_range(tmp_path, matrix, full):
    film(tmp_path / "a.mkv", pictures(3), matrix=matrix, full=full, codec="ffv1")
    enhance(tmp_path / "a.mkv", tmp_path / "b.mkv", scale=1, options=WriteOptions(codec="ffv1"))
    with av.open(str(tmp_path / "a.mkv")) as old, av.open(str(tmp_path / "b.mkv")) as new:
        a, b = next(old.decode(video=0)), next(new.decode(video=0))
        assert (b.colorspace, b.color_range) == (a.colorspace, a.color_range)
        for one, other in zip(a.planes, b.planes, strict=True):  # luma and chroma themselves, both ways through RGB
            difference = np.frombuffer(one, np.uint8).astype(int) - np.frombuffer(other, np.uint8)
            assert np.abs(difference).max() <= 1
    np.testing.assert_allclose(decoded(tmp_path / "b.mkv")[1], decoded(tmp_path / "a.mkv")[1], atol=3)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", "mp4"), ("h265", "mp4"), ("av1", "webm"), ("prores", "mov"), ("ffv1", "mkv")]
)
def test_every_codec_at_ten_bits(tmp_path, codec, suffix):
    deep = [frame.astype(np.uint16) * 257 for frame in pictures(4, 64, 96)]
    film(tmp_path / "a.mkv", deep, codec="ffv1", pixels="yuv422p10le")
    enhance(tmp_path / "a.mkv", tmp_path / f"b.{suffix}", options=WriteOptions(codec=codec))
    with av.open(str(tmp_path / f"b.{suffix}")) as container:
        assert "10" in next(container.decode(video=0)).format.name
    before, after = decoded(tmp_path / "a.mkv")[1], decoded(tmp_path / f"b.{suffix}")[1]
    assert np.abs(before.repeat(2, 1).repeat(2, 2) - after).mean() < 2.5 * 257


def test_equal_neighbours_are_computed_once_and_all_are_there(tmp_path):
    still, moving = pictures(1)[0], pictures(4)
    film(tmp_path / "a.mkv", [still] * 5 + moving[1:] + [still] * 2, codec="ffv1")
    stats = enhance(tmp_path / "a.mkv", tmp_path / "b.mkv")
    assert stats.images == 5
    assert len(decoded(tmp_path / "b.mkv")[0]) == 10


def test_an_excerpt_begins_at_0_with_its_sound(tmp_path):
    film(tmp_path / "a.mp4", pictures(50), sound=True, g="10")
    enhance(tmp_path / "a.mp4", tmp_path / "b.mp4", scale=1, excerpt=Excerpt(start="0.8", end="0:01.2"))
    times, found = decoded(tmp_path / "b.mp4")
    assert times == [Fraction(k, 25) for k in range(10)]
    np.testing.assert_allclose(found.mean(axis=(1, 2)), decoded(tmp_path / "a.mp4")[1][20:30].mean(axis=(1, 2)), atol=2)
    sound = packets(tmp_path / "b.mp4", "audio")
    assert -0.03 <= sound[0][0] <= 0.03
    assert 0.35 <= sound[-1][0] <= 0.4


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_film_comes_out_upright(tmp_path, turn):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
        stream.set_display_rotation(turn)
        for picture in pictures(3):
            container.mux(stream.encode(from_array(picture)))
        container.mux(stream.encode(None))
    enhance(tmp_path / "a.mp4", tmp_path / "b.mp4", scale=1)
    expected = np.rot90(np.stack(pictures(3)), turn // 90, axes=(1, 2)).astype(int)
    after = decoded(tmp_path / "b.mp4")[1]
    assert after.shape == expected.shape
    assert np.abs(after - expected).mean() < 4


@pytest.mark.parametrize("name", ["a.AVI", "a.mp4", "a.mpg"])
def test_a_film_without_a_name_for_its_result_gets_one_that_is_written(tmp_path, name, run):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4" if name != "a.mpg" else "mpeg2video", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in pictures(3):
            container.mux(stream.encode(from_array(picture).reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    assert run("enhance", name, "--model", "clean-x2", "--quiet")[0] == 0
    suffix = ".mp4" if name == "a.mp4" else ".mkv"
    with av.open(str(tmp_path / f"a-clean-x2{suffix}")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_what_a_film_cannot_be_is_one_line(tmp_path):
    film(tmp_path / "a.mp4", pictures(3))
    for target, options, reason in (
        ("b.gif", {}, "a film becomes a film"),
        ("b.png", {}, "a film becomes a film"),
        ("b.mp4", {"excerpt": Excerpt(pages="1")}, "--start and --end"),
        ("b.mp4", {"excerpt": Excerpt(start="9")}, "no picture"),
        ("b.mp4", {"options": WriteOptions(codec="mpeg9")}, "codec mpeg9"),
    ):
        with pytest.raises((ImageReadError, ImageWriteError, ArgumentError), match=reason):
            enhance(tmp_path / "a.mp4", tmp_path / target, **options)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ImageReadError, match=r"cut\.mp4"):
        enhance(tmp_path / "cut.mp4", tmp_path / "b.mp4")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(ImageReadError, match="no film"):
        enhance(tmp_path / "a.png", tmp_path / "b.png", excerpt=Excerpt(start="1"))
    assert names(tmp_path) == ["a.mp4", "a.png", "cut.mp4"]


@pytest.mark.parametrize("said", [{"start": "x"}, {"end": "1:2:3:4"}, {"start": "5", "end": "5"}, {"end": "-1"}])
def test_odd_times_are_refused(said):
    with pytest.raises(ArgumentError, match=r"--(start|end) "):
        Excerpt(**said)


def test_a_job_that_was_stopped_goes_on_behind_the_last_segment(tmp_path, monkeypatch):
    monkeypatch.setattr(durable_file, "SEGMENT_FRAMES", 6)
    film(tmp_path / "a.mp4", pictures(40), sound=True)
    pair = FilePair(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"))

    def do(folder, stop_after=None):
        engine = ToyEngine(ModelSpec("toy", 2, 1))
        with ResumableJob(tmp_path / folder, {}) as job, Enhancer(engine, max_in_flight=1, batch_size=1) as enhancer:
            kept = []
            keep = durable_file.SegmentStore.keep

            def stopping(store, *arguments):
                kept.append(keep(store, *arguments))
                if stop_after is not None and len(kept) > stop_after:
                    raise KeyboardInterrupt
                return kept[-1]

            monkeypatch.setattr(durable_file.SegmentStore, "keep", stopping)
            try:
                results = [result.status for result in job.run(enhancer, [pair])]
            except KeyboardInterrupt:
                results = ["stopped"]
            finally:
                monkeypatch.setattr(durable_file.SegmentStore, "keep", keep)
        return results, enhancer.stats.images

    assert do("undisturbed") == (["done"], 40)
    expected = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").unlink()
    assert do("killed", stop_after=2)[0] == ["stopped"]
    results, calls = do("killed")
    assert (results, calls) == (["done"], 40 - 18)
    assert (tmp_path / "b.mp4").read_bytes() == expected
    assert list((tmp_path / "killed" / "strips").iterdir()) == []
    assert do("killed") == (["done"], 0)


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".nut"])
@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "prores", "ffv1"])
def test_a_codec_that_a_container_does_not_hold_is_refused_before_the_work(tmp_path, suffix, codec, caplog):
    """And what is not refused comes out."""
    source = tmp_path / "in.mkv"
    film(source, pictures(3, 64, 64))
    engine = ToyEngine(spec=ModelSpec("toy", 1))
    target = tmp_path / f"out{suffix}"
    with Enhancer(engine) as enhancer:
        (outcome,) = each_file(enhancer.run, [enhancer.file_job(source, target, options=WriteOptions(codec=codec))])
    if outcome.error is None:
        assert len(decoded(target)[0]) == 3
        return
    assert f"{suffix} does not hold {codec}: choose" in str(outcome.error)
    assert not engine.shapes
    assert names(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_subtitles_in_words_are_kept_where_they_take_another_form(tmp_path, suffix, caplog):
    film(tmp_path / "plain.mkv", pictures(25, 64, 64))
    (tmp_path / "in.srt").write_text("1\n00:00:00,200 --> 00:00:00,600\nGrüße <i>an</i> alle\n\n")
    sources = [av.open(str(tmp_path / name)) for name in ("plain.mkv", "in.srt")]
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        streams = [out.add_stream_from_template(source.streams[0], opaque=True) for source in sources]
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
            source.close()
    with Enhancer(ToyEngine(spec=ModelSpec("toy", 1))) as enhancer:
        enhancer.enhance_file(tmp_path / "in.mkv", tmp_path / f"out{suffix}")
    found = [(float(start), words[2:].decode()) for start, words in packets(tmp_path / f"out{suffix}", "subtitles")]
    assert [(start, words) for start, words in found if words] == [(pytest.approx(0.2), "Grüße an alle")]
    assert not [record for record in caplog.records if "left out" in record.getMessage()]


def test_an_animation_with_alpha_lies_on_a_background_in_a_film(tmp_path):
    frames = [Image.new("RGBA", (64, 64), (200, 0, 0, alpha)) for alpha in (0, 255)]
    frames[0].save(tmp_path / "in.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    with Enhancer(ToyEngine(spec=ModelSpec("toy", 1))) as enhancer:
        with pytest.raises(ImageWriteError, match="--background"):
            enhancer.enhance_file(tmp_path / "in.webp", tmp_path / "out.mp4")
        options = WriteOptions(background=(0, 255, 0))
        enhancer.enhance_file(tmp_path / "in.webp", tmp_path / "out.mp4", options=options)
    first, second = (frame[10:-10, 10:-10].mean((0, 1)) for frame in decoded(tmp_path / "out.mp4")[1])
    np.testing.assert_allclose(first, (0, 255, 0), atol=4)
    np.testing.assert_allclose(second, (200, 0, 0), atol=4)
