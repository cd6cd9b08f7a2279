"""An export is verified, measured and described, or leaves nothing."""

import json
import sys
import types

import numpy as np
import onnx
import pytest
import torch
from support import networks

from sr_tile.errors import ArgumentError, ModelLoadError, ModelOutputError
from sr_tile.export import architectures, checkpoint
from sr_tile.export.architectures import Network
from sr_tile.export.graph_writer import GraphWriter
from sr_tile.models import receptive_field


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"params": networks.nafnet(**networks.SMALL_NAFNET).state_dict()}, path)
    return path


def test_export_writes_a_described_file(weights, tmp_path):
    report = checkpoint.export(weights, tmp_path / "tiny.onnx", licence="MIT")
    assert report.worst_error <= 1e-5
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.onnx"]
    model = onnx.load(report.path)
    stored = json.loads({entry.key: entry.value for entry in model.metadata_props}["sr_tile"])
    assert stored == json.loads(json.dumps(report.metadata))
    facts = {"name": "tiny", "scale": 1, "channels": 3, "multiple": 4, "tile": 256, "licence": "MIT"}
    assert facts.items() <= stored.items()
    assert stored["value_range"] == [0.0, 1.0]
    assert stored["halo"] % 4 == 0
    assert stored["receptive_field"] is None  # pooling sees the whole input
    assert len(stored["checkpoint_sha256"]) == 64
    assert {"random 1x3x1x1", "natural 3x3x32x32", "random 1x3x100x130"} <= stored["verification"]["errors"].keys()


def test_a_graph_that_differs_leaves_no_file(weights, tmp_path):
    (tmp_path / "old.onnx").write_bytes(b"old")
    with pytest.raises(ModelOutputError, match="nothing was written"):
        checkpoint.export(weights, tmp_path / "old.onnx", tolerance=0.0)
    assert (tmp_path / "old.onnx").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_options_out_of_range(weights, tmp_path):
    with pytest.raises(ArgumentError, match="opset 17"):
        checkpoint.export(weights, tmp_path / "x.onnx", opset=17)
    with pytest.raises(ArgumentError, match=r"\.onnx"):
        checkpoint.export(weights, tmp_path / "x.pt")
    with pytest.raises(ArgumentError, match="pooling"):
        checkpoint.export(weights, tmp_path / "x.onnx", pooling="some")
    assert not list(tmp_path.iterdir())


def test_locality_of_known_networks():
    def blur(picture):
        padded = np.pad(picture, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
        height, width = picture.shape[2:]
        return sum(padded[..., i : i + height, j : j + width] for i in range(5) for j in range(5)) / 25

    found = receptive_field.measure(lambda picture: blur(picture).astype(np.float32), 1, 1, 1)
    assert found.receptive_field == 5
    assert 1 <= found.halo <= 2
    enlarge = receptive_field.measure(lambda picture: picture.repeat(2, 2).repeat(2, 3), 3, 2, 8)
    assert (enlarge.halo, enlarge.seam, enlarge.receptive_field) == (0, 0.0, 1)
    assert receptive_field.measure(lambda picture: picture - picture.mean(), 1, 1, 16).receptive_field is None


@pytest.mark.parametrize(("share", "seen"), [(0.011, False), (0.02, True)])
def test_what_a_network_takes_of_the_whole_picture_shows_where_the_rest_is_dark(share, seen):
    found = receptive_field.measure(lambda picture: picture + np.float32(share) * picture.mean(), 1, 1, 1, 96)
    assert found.receptive_field is None
    assert (found.seam >= receptive_field.HALF_STEP) == seen


def test_spandrel_networks(tmp_path):
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    network = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=3, upscale=2)
    torch.save({"params": network.state_dict()}, tmp_path / "compact.pth")
    report = checkpoint.export(tmp_path / "compact.pth", tmp_path / "compact.onnx")
    assert report.metadata["architecture"].startswith("RealESRGAN Compact")
    assert {"scale": 2, "channels": 3, "multiple": 1}.items() <= report.metadata.items()
    assert report.metadata["receptive_field"] is not None
    assert report.worst_error <= 1e-5


def test_extra_architectures_are_asked_where_they_are_installed(tmp_path, monkeypatch):
    installed = []
    extra = types.SimpleNamespace(install=lambda **options: installed.append(options))
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", extra)
    torch.save({"what.weight": torch.zeros(3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match="spandrel_extra_arches"):
        checkpoint.export(tmp_path / "w.pth", tmp_path / "w.onnx")
    assert installed


def test_unknown_architecture(tmp_path):
    torch.save({"what.weight": torch.zeros(3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match="not known"):
        checkpoint.export(tmp_path / "w.pth", tmp_path / "w.onnx")


@pytest.mark.slow
def test_the_grid_of_scunet_is_measured(tmp_path):
    torch.save(networks.scunet(config=(0, 1, 0, 1, 0, 1, 0), dim=32).state_dict(), tmp_path / "scunet.pth")
    report = checkpoint.export(tmp_path / "scunet.pth", tmp_path / "scunet.onnx")
    assert report.metadata["multiple"] == 64
    assert report.metadata["halo"] % 64 == 0


class Blur:
    """An architecture of one convolution, as a package under `architectures/` would be."""

    @staticmethod
    def load(state, pooling):
        if set(state) != {"blur.weight"}:
            return None
        weight = state["blur.weight"]

        def graph(opset):
            writer = GraphWriter("blur", 3, opset)
            return writer.model(writer.conv(writer.input, weight))

        def reference(picture):
            return torch.nn.functional.conv2d(torch.from_numpy(picture), torch.from_numpy(weight), padding=1).numpy()

        return Network("Blur", 3, 1, 1, graph, reference)


@pytest.mark.parametrize("prefix", ["", "net_g."])
def test_an_architecture_that_is_registered_is_exported_like_the_others(prefix, tmp_path, monkeypatch):
    torch.save({f"{prefix}blur.weight": torch.rand(3, 3, 3, 3) / 27}, tmp_path / "blur.pth")
    monkeypatch.setattr(architectures, "ARCHITECTURES", (Blur, *architectures.ARCHITECTURES))
    report = checkpoint.export(tmp_path / "blur.pth", tmp_path / "blur.onnx")
    assert report.metadata["architecture"] == "Blur"
    assert report.metadata["receptive_field"] == 3
    with pytest.raises(ArgumentError, match="local pooling exists for NAFNet only"):
        checkpoint.export(tmp_path / "blur.pth", tmp_path / "local.onnx", pooling="local")
