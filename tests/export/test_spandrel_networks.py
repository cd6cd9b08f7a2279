"""The most used architectures of OpenModelDB: in tiles they give what PyTorch gives for the whole picture, or it is said."""

import numpy as np
import pytest
import torch
from support import spandrel_networks

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ModelLoadError
from sr_tile.export.checkpoint import TOLERANCE, export
from sr_tile.models import probing
from sr_tile.models.receptive_field import natural_like
from sr_tile.planner import Settings
from sr_tile.tiling.grid import round_up

STEP = 1 / 255


def texture(height, width):
    """A picture whose pixels differ from their neighbours everywhere, so that another phase of a grid is another picture."""
    noise = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    return 0.7 * natural_like(1, 3, height, width, seed=5) + 0.3 * noise


def whole(loaded, picture):
    with torch.inference_mode():
        return loaded.model(torch.tensor(picture)).clamp(0, 1).numpy()[0].transpose(1, 2, 0)


def largest_difference(path, loaded, picture, **settings):
    """From what PyTorch gives in one call, of tiles through the exported file."""
    with Enhancer(path, device="cpu", precision="fp32", settings=Settings(batch=2, **settings)) as enhancer:
        result = enhancer.enhance(picture[0].transpose(1, 2, 0))
    return float(np.abs(result - whole(loaded, picture)).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", spandrel_networks.NETWORKS)
def test_tiles_give_the_whole_picture_or_it_is_said(tmp_path, monkeypatch, name, caplog):
    monkeypatch.setattr(probing, "STEPS", (1, 2, 3, 4, 6, 8, 16, 32, 64))  # where none is right, all are tried
    loaded = spandrel_networks.network(name)
    path = tmp_path / "net.pth"
    torch.save(loaded.model.state_dict(), path)
    needed = loaded.size_requirements.multiple_of  # others pad inside
    picture = texture(round_up(139, needed), round_up(203, needed))
    with Enhancer(path, device="cpu") as enhancer:
        spec = enhancer.engine.spec
    assert spec.scale == loaded.scale
    assert spec.details["verification"]["worst"] <= TOLERANCE
    side = round_up(64, spec.multiple)
    cut = largest_difference(path, loaded, picture[..., : 2 * side, : 3 * side], tile=side, overlap=0)
    assert cut > 2 * STEP
    assert spec.is_global == (name in spandrel_networks.GLOBAL)
    if spec.is_global:
        caplog.clear()
        largest_difference(path, loaded, picture, tile=side)
        assert "each of" in caplog.text
    else:
        tile = round_up(max(64, 4 * spec.halo), spec.multiple)
        assert largest_difference(path, loaded, picture, tile=tile) <= STEP


@pytest.mark.slow
@pytest.mark.parametrize("name", spandrel_networks.REFUSED)
def test_what_is_no_graph_of_any_size_is_refused_in_one_line(tmp_path, name, capfd):
    torch.save(spandrel_networks.network(name).model.state_dict(), tmp_path / "net.pth")
    with pytest.raises(ModelLoadError, match=rf"^{name} cannot be written as an ONNX graph of any size: [^\n]*$"):
        export(tmp_path / "net.pth", tmp_path / "net.onnx")
    assert "graph(" not in "".join(capfd.readouterr())
    assert not (tmp_path / "net.onnx").exists()
