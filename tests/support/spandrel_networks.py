"""The most used architectures of OpenModelDB, small, with random weights that make cuts visible."""

import importlib

import numpy as np
import torch
from torch import nn

from sr_tile.export.architectures.spandrel.module import declare_operators
from sr_tile.models.receptive_field import natural_like

declare_operators()  # as the product does before it imports spandrel

import spandrel  # noqa: E402

_SWIN = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "mlp_ratio": 2, "upscale": 2}
_DIRECT = {**_SWIN, "upsampler": "pixelshuffledirect"}
_SHUFFLED = {**_SWIN, "upsampler": "pixelshuffle"}

NETWORKS = {
    "DnCNN": ("DnCNN.__arch.network_dncnn.DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 16, "nb": 17, "mode": "R"}),
    "ESRGAN": ("ESRGAN.__arch.RRDB.RRDBNet", {"num_filters": 16, "num_blocks": 1, "scale": 4}),
    "ESRGAN+": ("ESRGAN.__arch.RRDB.RRDBNet", {"num_filters": 16, "num_blocks": 1, "scale": 2, "plus": True}),
    "Real-ESRGAN x2": (
        "ESRGAN.__arch.RRDB.RRDBNet",
        {"in_nc": 12, "num_filters": 16, "num_blocks": 1, "scale": 4, "shuffle_factor": 2},
    ),
    "Compact": ("Compact.__arch.SRVGG.SRVGGNetCompact", {"num_feat": 16, "num_conv": 4, "upscale": 2}),
    "SPAN": ("SPAN.__arch.span.SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    "SwinIR": ("SwinIR.__arch.SwinIR.SwinIR", _DIRECT),
    "Swin2SR": ("Swin2SR.__arch.Swin2SR.Swin2SR", _DIRECT),
    "HAT": ("HAT.__arch.HAT.HAT", {**_SHUFFLED, "compress_ratio": 3, "squeeze_factor": 4}),
    "DAT": (
        "DAT.__arch.DAT.DAT",
        {"embed_dim": 32, "split_size": [2, 4], "depth": [2], "num_heads": [2], "expansion_factor": 2.0, "upscale": 2},
    ),
    "RGT": (
        "RGT.__arch.rgt.RGT",
        {"embed_dim": 32, "depth": [2], "num_heads": [2], "split_size": [8, 8], "upscale": 2},
    ),
    "DRCT": ("DRCT.__arch.drct_arch.DRCT", {**_SHUFFLED, "gc": 8}),
    "OmniSR": ("OmniSR.__arch.OmniSR.OmniSR", {"num_feat": 16, "block_num": 1, "up_scale": 2}),
    "Real-CUGAN": ("RealCUGAN.__arch.upcunet_v3.UpCunet2x", {}),
    "PLKSR": ("PLKSR.__arch.PLKSR.PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "RealPLKSR": ("PLKSR.__arch.RealPLKSR.RealPLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "RealPLKSR DySample": (
        "PLKSR.__arch.RealPLKSR.RealPLKSR",
        {"dim": 16, "n_blocks": 2, "upscaling_factor": 2, "dysample": True, "layer_norm": True},
    ),
    "SAFMN": ("SAFMN.__arch.safmn.SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "MoSR": ("MoSR.__arch.mosr_arch.MoSR", {"n_block": 2, "dim": 16, "upscale": 2}),
    "SwiftSR": ("SwiftSRGAN.__arch.SwiftSRGAN.Generator", {"num_channels": 16, "num_blocks": 2, "upscale_factor": 2}),
    "RCAN": (
        "RCAN.__arch.rcan_arch.RCAN",
        {"scale": 2, "n_resgroups": 1, "n_resblocks": 2, "n_feats": 16, "reduction": 4},
    ),
}
"""Class within spandrel's architectures, and its options."""

REFUSED = {
    "ATD": ("ATD.__arch.atd_arch.ATD", {**_DIRECT, "category_size": 32, "num_tokens": 8, "reducted_dim": 4}),
}
"""Those that are no graph of any size: a loop over the pictures of a batch, pixels sorted by kind."""

GLOBAL = {"DAT", "OmniSR", "RCAN", "RGT", "Real-CUGAN", "RealPLKSR"}
"""Those whose pixels all depend on all others: attention over channels or a grid of the whole, normalisation of groups."""

_LEAST_GAINS = {"Real-CUGAN": 1.4}  # with 1.0 its pooling shows by 0.98 of what is seen: another processor may differ

_CUT_SHOWS = 8 / 255


def network(name):
    """A network as spandrel loads it, with weights that make a picture of contrast whose pixels depend on those around."""
    place, options = (NETWORKS | REFUSED)[name]
    module, kind = place.rsplit(".", 1)
    for gain in (0.7, 1.0, 1.4, 2.0, 2.8):
        if gain < _LEAST_GAINS.get(name, 0):
            continue
        torch.manual_seed(0)
        made = getattr(importlib.import_module(f"spandrel.architectures.{module}"), kind)(**options)
        _randomise(made, gain)
        loaded = spandrel.ModelLoader("cpu").load_from_state_dict(made.state_dict())
        loaded.model.eval()
        picture = torch.from_numpy(natural_like(1, 3, 64, 96))
        with torch.inference_mode():
            _balance(loaded.model, picture)
            whole, cut = loaded.model(picture.clone()), loaded.model(picture[..., :64].clone())
        if (whole[..., : cut.shape[3]] - cut).abs().max() > _CUT_SHOWS:
            return loaded
    raise AssertionError(f"{name}: no gain was found at which a cut shows")


def _randomise(made, gain):
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            inputs = layer.weight.numel() // (layer.bias.numel() if layer.bias is not None else layer.weight.shape[0])
            nn.init.normal_(layer.weight, std=gain / np.sqrt(inputs))
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=0.1)


def _balance(model, picture):
    """Let the result's mean be 0.5 and its deviation 0.2, by its last convolution."""
    order = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: order.append(layer))
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    model(picture.clone())  # RCAN multiplies what it is given in place
    for hook in hooks:
        hook.remove()
    last = order[-1]
    for parameter in last.parameters():
        parameter.mul_(0.2 / model(picture.clone()).std())
    if last.bias is not None:
        last.bias.add_(0.5 - model(picture.clone()).mean())
