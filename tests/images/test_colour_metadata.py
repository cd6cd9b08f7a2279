"""HDR, gamma and profiles are kept, or said to be lost."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.image_files import SUFFIXES, exif_block, photograph, read, write
from support.metadata import PQ, SRGB, SRGB_CHROMATICITIES, chunks, gray_profile, packet, said

from sr_tile.images import Metadata


@pytest.mark.parametrize("target", ["png", "avif"])
@pytest.mark.parametrize("cicp", [PQ, (9, 18, 0, 1), (12, 13, 0, 1), (12, 16, 0, 1), (1, 8, 0, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hdr_and_wide_colours_are_kept(tmp_path, cicp, target, dtype, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(3, dtype), metadata=Metadata(cicp=cicp))
    data = path.read_bytes()
    if target == "png":
        assert (b"cICP", bytes([*cicp[:2], 0, 1])) in chunks(path)
    else:
        assert struct.pack(">4sHH", b"nclx", *cicp[:2]) in data
        write(tmp_path / "plain.avif", photograph(3, dtype))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "plain.avif")))
        np.testing.assert_array_equal(read(path)[0], read(tmp_path / "plain.avif")[0])
    assert read(path)[1].metadata.cicp[:2] == cicp[:2]
    assert said(caplog) == []


@pytest.mark.parametrize("target", ["jpeg", "tiff", "webp"])
def test_hdr_that_a_format_cannot_say_is_said(tmp_path, target, caplog):
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(cicp=PQ))
    assert len(said(caplog)) == 1
    assert "HDR" in said(caplog)[0]


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_colours_that_all_take_for_granted_need_no_word(tmp_path, target, caplog):
    same = ((b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", SRGB_CHROMATICITIES))
    write(tmp_path / f"a{SUFFIXES[target]}", photograph(), metadata=Metadata(cicp=SRGB, png_colour=same))
    write(tmp_path / f"b{SUFFIXES[target]}", photograph(), metadata=Metadata(png_colour=((b"sRGB", b"\0"),)))
    assert said(caplog) == []


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_gamma_is_kept_or_said(tmp_path, target, caplog):
    colour = ((b"gAMA", struct.pack(">I", 100_000)), (b"cHRM", SRGB_CHROMATICITIES))
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(), metadata=Metadata(png_colour=colour))
    if target == "png":
        with Image.open(path) as image:
            assert image.info["gamma"] == 1.0
        assert read(path)[1].metadata.png_colour == colour
        assert said(caplog) == []
    else:
        assert len(said(caplog)) == 1


@pytest.mark.parametrize("profile", [False, True])
def test_the_display_of_hdr_is_kept_in_a_png(tmp_path, profile):
    """Mastering display and light levels, beside a profile too."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if profile else None
    colour = ((b"mDCV", bytes(range(24))), (b"cLLI", bytes(range(8))))
    write(tmp_path / "a.png", photograph(), metadata=Metadata(icc, cicp=PQ, png_colour=colour))
    kinds = [kind for kind, _ in chunks(tmp_path / "a.png")]
    for each in colour:
        assert each in chunks(tmp_path / "a.png")
        assert kinds.index(each[0]) < kinds.index(b"IDAT")
    assert read(tmp_path / "a.png")[1].metadata.png_colour == colour


def test_a_profile_wins_over_gamma(tmp_path, caplog):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(tmp_path / "a.png", photograph(), metadata=Metadata(icc, png_colour=((b"gAMA", struct.pack(">I", 100_000)),)))
    kinds = [kind for kind, _ in chunks(tmp_path / "a.png")]
    assert b"gAMA" not in kinds
    assert b"iCCP" in kinds
    assert said(caplog) == []


@pytest.mark.parametrize("target", list(SUFFIXES))
def test_a_gray_profile_is_kept_or_said(tmp_path, target, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(1), metadata=Metadata(icc=gray_profile()))
    with Image.open(path) as image:
        kept = image.info.get("icc_profile")
    assert (kept == gray_profile()) == (target in ("png", "jpeg", "tiff"))
    assert [("GRAY profile" in line) for line in said(caplog)] == ([] if kept else [True])


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("options", [{}, {"lossless": True}])
@pytest.mark.parametrize("icc", [False, True])
def test_hdr_of_an_avif_in_every_layout(tmp_path, alpha, options, icc):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if icc else None
    metadata = Metadata(profile, exif_block(), packet(), cicp=PQ)
    pixels_hwc = photograph(4 if alpha else 3)
    write(tmp_path / "a.avif", pixels_hwc, metadata=metadata, **options)
    write(tmp_path / "b.avif", pixels_hwc, metadata=Metadata(*(metadata.icc, metadata.exif, metadata.xmp)), **options)
    one, other = read(tmp_path / "a.avif"), read(tmp_path / "b.avif")
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1].metadata.cicp[:2] == PQ[:2]
    assert (one[1].metadata.exif, one[1].metadata.icc) == (other[1].metadata.exif, other[1].metadata.icc)
    with Image.open(tmp_path / "a.avif") as image, Image.open(tmp_path / "b.avif") as plain:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(plain))
        assert image.info["xmp"] == packet()


@pytest.mark.parametrize("target", list(SUFFIXES))
@pytest.mark.parametrize("space", ["GRAY", "RGB", "CMYK"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB"])
def test_a_profile_of_other_pixels_is_left_out_and_said(tmp_path, target, space, mode, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    if target == "jpeg":
        mode = mode[:3].removesuffix("A")
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = space.ljust(4).encode()
    Image.fromarray(photograph()).convert(mode).save(path, icc_profile=bytes(profile))
    pixels_hwc, info = read(path)
    write(tmp_path / "out.png", pixels_hwc, metadata=info.metadata)
    own = "RGB" if info.colours == 3 else "GRAY"
    with Image.open(tmp_path / "out.png") as image:
        assert ("icc_profile" in image.info) == (space == own)
    assert [f"its {space} profile" in line for line in caplog.messages] == ([] if space == own else [True]), (
        caplog.messages
    )


@pytest.mark.parametrize("profile", [b"xx", bytes(200)])
def test_a_damaged_profile_is_said_to(tmp_path, profile, caplog):
    Image.fromarray(photograph()).save(tmp_path / "a.png", icc_profile=profile)
    assert read(tmp_path / "a.png")[1].metadata.icc is None
    assert ["profile is damaged" in line for line in caplog.messages] == [True], caplog.messages
