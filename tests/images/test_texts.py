"""Texts of PNG and comments of JPEG are kept, or said to be lost."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from support.image_files import SUFFIXES, photograph, read, write
from support.metadata import said, segments, through

from sr_tile.images import Metadata
from sr_tile.images.png_chunks import chunk, read_png

TEXTS = [
    (("parameters", "a boat, steps: 20, seed: 7"),),
    (("Title", "Grüße"), ("Comment", "雪が降る"), ("Title", "twice")),
    (("Comment", "x" * 200_000),),
    (("workflow", "{\"a\": [1, 2]}\n" * 9_000), ("Software", "")),
]  # fmt: skip


@pytest.mark.parametrize("texts", TEXTS)
def test_text_of_a_png_is_kept_by_a_png(tmp_path, texts, caplog):
    wanted = PngImagePlugin.PngInfo()
    for number, (keyword, text) in enumerate(texts):
        latin = all(ord(letter) < 256 for letter in text)
        (wanted.add_text if latin else wanted.add_itxt)(keyword, text, zip=number % 2 == 0)
    Image.fromarray(photograph()).save(tmp_path / "a.png", pnginfo=wanted)
    after = through(tmp_path, tmp_path / "a.png", "b.png")
    with Image.open(after) as image:
        image.load()
        assert {key: str(text) for key, text in image.text.items()} == dict(texts)
    assert tuple(read(after)[1].metadata.text) == texts
    np.testing.assert_array_equal(np.asarray(Image.open(after)), photograph())
    assert said(caplog) == []


@pytest.mark.parametrize("texts", TEXTS)
def test_text_becomes_comments_of_a_jpeg(tmp_path, texts, caplog):
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(text=texts))
    comments = b"".join(body for marker, body in segments(tmp_path / "a.jpg") if marker == 0xFE).decode()
    assert comments == "".join(text if keyword == "Comment" else f"{keyword}: {text}" for keyword, text in texts)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (300, 200)
        image.load()
    assert said(caplog) == []


@pytest.mark.parametrize("target", ["png", "jpeg"])
def test_the_comment_of_a_jpeg_is_kept(tmp_path, target):
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", comment="hello, Grüße".encode())
    with Image.open(through(tmp_path, tmp_path / "a.jpg", f"b{SUFFIXES[target]}")) as image:
        image.load()
        kept = image.info["comment"].decode() if target == "jpeg" else image.text["Comment"]
    assert kept == "hello, Grüße"


@pytest.mark.parametrize("target", ["tiff", "webp", "avif"])
def test_text_that_a_format_cannot_hold_is_said(tmp_path, target, caplog):
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(text=(("parameters", "x"),)))
    assert len(said(caplog)) == 1
    assert "parameters" in said(caplog)[0]


def test_damaged_text_of_a_png_is_left_out(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "png")
    data = buffer.getvalue()
    odd = [chunk(b"zTXt", b"a\0\0nonsense"), chunk(b"iTXt", b"b"), chunk(b"tEXt", b"good\0yes"), chunk(b"gAMA", b"1")]
    (tmp_path / "a.png").write_bytes(data[:33] + b"".join(odd) + data[33:])
    header = read_png(tmp_path / "a.png")
    assert (header.text, header.colour) == ([("good", "yes")], ())
