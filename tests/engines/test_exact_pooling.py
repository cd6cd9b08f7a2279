"""Networks that pool over the whole picture: over tiles they give what ONNX Runtime gives for the whole picture."""

import errno
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from support.toys import conv_model, noise_image
from torch import nn

from sr_tile.engines.exact_pooling import planes
from sr_tile.engines.exact_pooling.engine import ExactPoolingEngine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageError
from sr_tile.export.architectures import detect
from sr_tile.planner import Settings, make_plan
from sr_tile.planner.exact_pooling import pooling_exactly
from sr_tile.system.cache import cache_folder, recall, remember
from tests.support.reference_networks import NAFNet


class Attention(nn.Module):
    """Squeeze and excite; the mean in one of the forms that exporters write."""

    def __init__(self, width: int, form: str) -> None:
        super().__init__()
        self.form, self.inner = form, nn.Conv2d(width, width, 3, padding=1)
        self.score = nn.Conv2d(width, width, 1)

    def forward(self, x):
        y = torch.relu(self.inner(x))
        if self.form == "GlobalAveragePool":
            mean = nn.functional.adaptive_avg_pool2d(y, 1)
        elif self.form == "keepdims":
            mean = y.mean((2, 3), keepdim=True)
        else:
            mean = y.mean((-1, -2))[:, :, None, None]
        return x + y * torch.sigmoid(4 * self.score(mean))


class Net(nn.Module):
    """`levels` attentions one after the other, the last ones at half the size where `strided`; one more beside them."""

    def __init__(
        self, levels: int, form: str = "GlobalAveragePool", strided: bool = False, beside: bool = False
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(Attention(8, form) for _ in range(levels))
        self.down = nn.Conv2d(8, 32, 2, stride=2) if strided else None
        self.up = nn.Conv2d(8, 32, 1) if strided else None
        self.deep = Attention(32, form) if strided else None
        self.beside = Attention(8, form) if beside else None
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        start = y = self.first(x)
        for block in self.blocks:
            y = block(y)
        if self.deep is not None:
            height, width = x.shape[2:]
            padded = nn.functional.pad(y, (0, (-width) % 2, 0, (-height) % 2))
            deep = nn.functional.pixel_shuffle(self.deep(self.down(padded)), 2)
            y = y + deep[:, :, :height, :width]
        if self.beside is not None:
            y = y + self.beside(start)
        return x + self.last(y)


def exported(path, net):
    torch.manual_seed(0)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    dims = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        net.eval(),
        (torch.zeros(1, 3, 64, 48),),
        str(path),
        input_names=["x"],
        output_names=["y"],
        dynamic_axes=dims,
        dynamo=False,
    )
    return path


def whole(path, batch):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def difference(path, batch, pixels=4096, **options):
    engine = ExactPoolingEngine(OnnxEngine(path, "cpu"), tile_pixels=pixels, **options)
    expected = whole(path, batch)
    return np.abs(engine.run(batch) - expected).max() / np.abs(expected).max(), engine


NETS = {
    "one": Net(1),
    "two": Net(2),
    "keepdims": Net(2, "keepdims"),
    "squeezed": Net(2, "squeezed"),
    "nested and beside": Net(3, "keepdims", beside=True),
    "strided": Net(1, strided=True),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(256, 192), (197, 301)])
def test_tiles_equal_the_whole(tmp_path, name, size):
    path = exported(tmp_path / "net.onnx", NETS[name])
    batch = np.random.default_rng(1).random((2, 3, *size), np.float32)
    batch[:, :, : size[0] // 2] *= 0.1  # no tile has the picture's mean
    found, engine = difference(path, batch)
    assert found < 1e-5
    assert len(engine._parts) > 1
    tile = whole(path, np.ascontiguousarray(batch[:1, :, -96:]))
    assert np.abs(tile[:, :, 64:] - whole(path, batch[:1])[:, :, -32:]).max() > 1e-3  # what tiles alone would have lost


def test_planes_that_have_no_room_in_memory_lie_in_files(tmp_path):
    path = exported(tmp_path / "net.onnx", Net(2))
    batch = np.random.default_rng(1).random((1, 3, 130, 170), np.float32)
    assert difference(path, batch, planes_limit=0.0)[0] < 1e-5


def test_planes_that_have_no_room_at_all_are_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    engine = ExactPoolingEngine(OnnxEngine(exported(tmp_path / "net.onnx", Net(2)), "cpu"), planes_limit=0.0)
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ImageError, match=r"no room for .* KiB .*No space left on device.*TMPDIR"):
        engine.run(np.zeros((1, 3, 130, 170), np.float32))


def test_planes_obey_the_limit_of_memory(tmp_path, monkeypatch):
    engine = OnnxEngine(exported(tmp_path / "net.onnx", Net(2)), "cpu")
    plan = make_plan([engine], Settings(tile=64, batch=1))
    batch = np.random.default_rng(1).random((1, 3, 600, 500), np.float32)
    plane = 4 * 8 * 600 * 500  # of eight channels, float32
    made, results = [], []
    monkeypatch.setattr(planes, "_in_file", lambda size, shape: (made.append(size), np.empty(shape, np.float32))[1])
    monkeypatch.setattr("sr_tile.system.memory.process_ram", lambda: 2**30)
    for room in (100 * plane, 3 * plane):  # half of it is for planes
        made.clear()
        results.append(pooling_exactly([engine], plan, 2**30 + room)[0][0].run(batch))
        assert (plane in made) == (room == 3 * plane)
    assert np.array_equal(*results)


@pytest.mark.slow
def test_what_was_measured_is_measured_once(tmp_path, monkeypatch):
    path = exported(tmp_path / "net.onnx", Net(2, "keepdims", strided=True))
    batch = np.random.default_rng(1).random((1, 3, 130, 171), np.float32)
    first = ExactPoolingEngine(OnnxEngine(path, "cpu"), 4096)
    with monkeypatch.context() as patch:
        for name in ("_measure_places", "_measure_margins"):
            patch.setattr(ExactPoolingEngine, name, lambda *_: pytest.fail("measured again"))
        second = ExactPoolingEngine(OnnxEngine(path, "cpu"), 4096)
        assert second.spec == first.spec
        assert np.array_equal(second.run(batch), first.run(batch))
    (kept,) = cache_folder("pooling").iterdir()
    good = recall(kept, str)
    broken = [
        good[:-9],
        "[]",
        good.replace('"multiple": 2', '"multiple": 0'),
        good.replace('"margins": [[', '"margins": [[-1, '),
    ]
    for text in (*broken, good.replace('"x"', '"y"')):
        remember(kept, text)
        assert np.array_equal(ExactPoolingEngine(OnnxEngine(path, "cpu"), 4096).run(batch), first.run(batch))
        assert recall(kept, str) == good


def test_a_network_that_pools_nowhere_is_refused(tmp_path):
    path = exported(tmp_path / "net.onnx", nn.Conv2d(3, 3, 3, padding=1))
    with pytest.raises(ArgumentError, match="pools nowhere"):
        ExactPoolingEngine(OnnxEngine(path, "cpu"))


def test_enhancer_gives_what_the_whole_picture_gives(tmp_path, caplog):
    path = exported(tmp_path / "net.onnx", Net(2))
    image = np.random.default_rng(1).random((300, 211, 3), np.float32)
    expected = np.clip(whole(path, image.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0), 0, 1)
    with Enhancer(path, device="cpu", settings=Settings(tile=64, batch=1, exact_pooling=True)) as enhancer:
        assert np.abs(enhancer.enhance(image) - expected).max() < 1e-5
    with Enhancer(path, device="cpu", settings=Settings(tile=64, batch=1), precision="fp32") as enhancer:
        assert np.abs(enhancer.enhance(image) - expected).max() > 1e-3


def test_where_nothing_is_pooled_it_is_said_that_exact_pooling_does_nothing(tmp_path, caplog):
    path = exported(tmp_path / "net.onnx", nn.Conv2d(3, 3, 3, padding=1))
    image = np.random.default_rng(1).random((80, 70, 3), np.float32)
    with Enhancer(path, device="cpu", settings=Settings(exact_pooling=True)) as enhancer:
        assert enhancer.enhance(image).shape == image.shape
    assert "pools nowhere" in caplog.text


def test_fewer_bits_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="fp32"):
        Enhancer("clean-x2", precision="bf16", settings=Settings(exact_pooling=True))


@pytest.mark.slow
def test_nafnet_of_four_levels(tmp_path):
    import onnx

    torch.manual_seed(0)
    net = NAFNet(3, 8, (1, 1, 1, 1), 1, (1, 1, 1, 1))
    for name, weight in net.named_parameters():
        if name.endswith(("beta", "gamma")):
            nn.init.normal_(weight, std=0.3)
    path = tmp_path / "net.onnx"
    onnx.save(detect({name: value.numpy() for name, value in net.state_dict().items()}).graph(18), path)
    batch = np.random.default_rng(1).random((1, 3, 301, 405), np.float32)
    batch[:, :, :150] *= 0.2
    assert difference(path, batch, 16384)[0] < 1e-5


def test_tiles_of_a_network_that_looks_at_all_it_is_given_are_said(tmp_path, caplog):
    measured = {"receptive_field": None}
    for index, (details, said) in enumerate(
        [
            ({"pooling": "global"}, True),
            ({**measured, "pooling": "local", "seam": 0.1}, False),
            ({**measured, "seam": 0.1}, True),
            ({**measured, "seam": 0.0001}, False),
            ({"receptive_field": 3, "seam": 0.0}, False),
        ]
    ):
        path = conv_model(tmp_path / f"{index}.onnx", 1)
        engine = OnnxEngine(path, "cpu")
        engine.spec = replace(engine.spec, details=details)
        with Enhancer(engine, settings=Settings(tile=32, overlap=8)) as enhancer:
            enhancer.enhance(noise_image(20, 20))
            assert "--exact-pooling" not in caplog.text
            enhancer.enhance(noise_image(50, 50))
        assert ("--exact-pooling" in caplog.text) == said
        caplog.clear()
        engine.close()
