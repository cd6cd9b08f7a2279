"""Sizes are read off the weights, and the published state dicts load strictly."""

import numpy as np
import pytest
from support import networks

from sr_tile.errors import ArgumentError, ModelLoadError
from sr_tile.export.architectures import detect
from sr_tile.export.architectures.nafnet import size as nafnet
from sr_tile.export.architectures.scunet import size as scunet

# Blocks of the published networks: encoders, middle, decoders; parameters in total.
PUBLISHED_NAFNETS = [
    ("SIDD-width32", 32, (2, 2, 4, 8), 12, (2, 2, 2, 2), 29_159_715),
    ("SIDD-width64", 64, (2, 2, 4, 8), 12, (2, 2, 2, 2), 115_982_915),
    ("GoPro-width32", 32, (1, 1, 1, 28), 1, (1, 1, 1, 1), 17_111_907),
    ("GoPro-width64", 64, (1, 1, 1, 28), 1, (1, 1, 1, 1), 67_888_835),
]
BLOCK = [
    *(f"trans_block.ln{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
    "trans_block.msa.relative_position_params",
    *(f"trans_block.msa.{part}.{kind}" for part in ("embedding_layer", "linear") for kind in ("weight", "bias")),
    *(f"trans_block.mlp.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")),
    *(f"conv1_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
    *(f"conv_block.{i}.weight" for i in (0, 2)),
]
NAF_BLOCK = ["beta", "gamma"] + [
    f"{part}.{kind}"
    for part in ("conv1", "conv2", "conv3", "sca.1", "conv4", "conv5", "norm1", "norm2")
    for kind in ("weight", "bias")
]


def empty(shapes):
    """A state dict without memory: every value is one broadcast zero."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def parameters(shapes):
    return sum(int(np.prod(shape)) for shape in shapes.values())


def test_scunet_has_the_published_keys():
    stages = ("m_down1", "m_down2", "m_down3", "m_body", "m_up3", "m_up2", "m_up1")
    keys = {"m_head.0.weight", "m_tail.0.weight"}
    for stage in stages:
        first = 1 if "up" in stage else 0
        keys |= {f"{stage}.{i + first}.{name}" for i in range(4) for name in BLOCK}
        keys |= {f"{stage}.{4 if 'down' in stage else 0}.weight"} if stage != "m_body" else set()
    shapes = scunet.shapes(scunet.SCUNetSize(3, 64, (4,) * 7))
    assert set(shapes) == keys
    assert len(shapes) == 540
    assert parameters(shapes) == 17_946_072
    assert detect(empty(shapes)).architecture == "SCUNet width 64, blocks 4-4-4-4-4-4-4"


@pytest.mark.parametrize("published", PUBLISHED_NAFNETS, ids=lambda p: p[0])
def test_nafnet_has_the_published_keys(published):
    _, width, encoders, middle, decoders, total = published
    keys = {f"{name}.{kind}" for name in ("intro", "ending") for kind in ("weight", "bias")}
    for i in range(4):
        keys |= {f"downs.{i}.weight", f"downs.{i}.bias", f"ups.{i}.0.weight"}
        keys |= {f"encoders.{i}.{j}.{name}" for j in range(encoders[i]) for name in NAF_BLOCK}
        keys |= {f"decoders.{i}.{j}.{name}" for j in range(decoders[i]) for name in NAF_BLOCK}
    keys |= {f"middle_blks.{j}.{name}" for j in range(middle) for name in NAF_BLOCK}
    shapes = nafnet.shapes(nafnet.NAFNetSize(3, width, encoders, middle, decoders))
    assert set(shapes) == keys
    assert parameters(shapes) == total
    assert nafnet.infer(empty(shapes)) == nafnet.NAFNetSize(3, width, encoders, middle, decoders)


@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_are_inferred(channels):
    small = networks.scunet(channels, config=(2, 1, 0, 3, 1, 0, 2))
    assert scunet.infer(networks.state_of(small)) == scunet.SCUNetSize(channels, 64, (2, 1, 0, 3, 1, 0, 2))
    narrow = networks.scunet(channels, config=(0, 0, 1, 1, 0, 0, 0), dim=16)
    assert scunet.infer(networks.state_of(narrow)) == scunet.SCUNetSize(channels, 16, (0, 0, 1, 1, 0, 0, 0))
    small = networks.nafnet(channels, 24, (1, 0, 2), 3, (0, 1, 1))
    found = nafnet.infer(networks.state_of(small))
    assert found == nafnet.NAFNetSize(channels, 24, (1, 0, 2), 3, (0, 1, 1))
    assert found.multiple == 8


@pytest.mark.parametrize(
    ("state", "key"),
    [
        (networks.state_of(networks.scunet(**networks.SMALL_SCUNET)), "m_body.1.trans_block.mlp.0.weight"),
        (networks.state_of(networks.nafnet(**networks.SMALL_NAFNET)), "encoders.1.0.sca.1.bias"),
    ],
    ids=["scunet", "nafnet"],
)
def test_a_wrong_key_is_named(state, key):
    missing = {name: value for name, value in state.items() if name != key}
    with pytest.raises(ModelLoadError, match=f"key {key} is missing"):
        detect(missing)
    with pytest.raises(ModelLoadError, match=r"key surplus\.weight is not known"):
        detect(state | {"surplus.weight": np.zeros(3, np.float32)})
    with pytest.raises(ModelLoadError, match=rf"key {key} has shape .*expected"):
        detect(state | {key: state[key][1:]})


@pytest.mark.parametrize(("config", "dim", "least"), [((1,) * 7, 32, 64), ((0, 1, 1, 1, 1, 1, 0), 48, 32)])
def test_a_width_that_heads_do_not_divide_is_refused(config, dim, least):
    shapes = scunet.shapes(scunet.SCUNetSize(3, dim, config))
    with pytest.raises(ModelLoadError, match=f"width {dim} .* not a multiple of {least}"):
        detect(empty(shapes))


def test_others_are_not_recognised():
    with pytest.raises(ModelLoadError, match="not known to sr-tile or spandrel"):
        detect({"conv.weight": np.zeros((3, 3, 3, 3), np.float32)})
    with pytest.raises(ArgumentError, match="local pooling exists for NAFNet only"):
        detect(networks.state_of(networks.scunet(**networks.SMALL_SCUNET)), "local")
