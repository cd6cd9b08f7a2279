"""A network as spandrel loads it, made to take every size, and traced."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor, nn

from sr_tile.errors import ModelLoadError, first_line
from sr_tile.export.architectures.network import Network, State
from sr_tile.export.architectures.torch_reference import compute
from sr_tile.tiling.grid import round_up

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # what it declares lasts as long as it does


class _Padded(nn.Module):
    """Pads right and bottom to what the network needs and crops, so that every size from 1 x 1 is accepted."""

    def __init__(self, network: nn.Module, multiple: int, minimum: int, scale: int) -> None:
        super().__init__()
        self.network, self.multiple, self.minimum, self.scale = network, multiple, minimum, scale

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]

        def missing(side: int) -> int:
            lacking = self.minimum - side
            lacking = (lacking + abs(lacking)) // 2  # max(0, ...), in a form that tracing keeps
            return lacking + -(side + lacking) % self.multiple

        pads = (0, missing(width), 0, missing(height))
        if self.multiple > 1 or self.minimum > 1:
            x = F.pad(x, pads, mode="replicate")
        result = self.network(x)
        return result[..., : height * self.scale, : width * self.scale]


def load_module(state: State) -> Network:
    """Recognise a state dict with spandrel.

    Raises:
        ModelLoadError: spandrel is missing, doesn't know the architecture, or the network isn't picture to picture.
    """
    declare_operators()
    try:
        import spandrel
    except ImportError:
        raise ModelLoadError(
            "the checkpoint is neither SCUNet nor NAFNet, and spandrel, which knows others, is not installed; "
            "pip install 'sr-tile[export]'"
        ) from None
    with contextlib.suppress(ImportError):
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)
    tensors = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
    try:
        found: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
    except Exception as error:  # spandrel's detectors raise what they stumble over
        raise ModelLoadError(
            f"the checkpoint's architecture is not known to sr-tile or spandrel ({first_line(error)}); "
            "`pip install spandrel_extra_arches` adds some, under licences of their own; a network of your "
            "own becomes ONNX by torch.onnx.export"
        ) from None
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.input_channels != found.output_channels:
        raise ModelLoadError(f"{found.architecture.name} does not map one picture to one picture of equal channels")
    multiple = max(1, found.size_requirements.multiple_of)
    padded = _Padded(found.model.eval(), multiple, found.size_requirements.minimum, found.scale).eval()
    return Network(
        architecture=" ".join((found.architecture.name, *found.tags)),
        channels=found.input_channels,
        scale=found.scale,
        multiple=multiple,
        graph=lambda opset: _trace(padded, found.input_channels, multiple, opset),
        reference=lambda picture: compute(padded, picture),
        is_multiple_known=False,
    )


def declare_operators() -> None:
    """Tell Torch of two operators that torchvision's import needs, where its own library does not fit this Torch.

    spandrel imports torchvision; no network that is exported calls them.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in ("nms", "qnms"):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]  # what the failed import left
    except ImportError:
        pass  # spandrel says what is missing


@contextlib.contextmanager
def _dynamic_sizes(network: nn.Module) -> Iterator[None]:
    """Let sizes stay traced where a network's own code makes numbers of them, which tracing would keep.

    `int(windows.shape[0] / (height * width / side / side))` is the batch of windowed attention (SwinIR and its kin),
    `torch.tensor([width, height])` a divisor (DySample), `adaptive_max_pool2d(x, (height // 2, width // 2))` a level of a
    pyramid (SAFMN).
    """
    make, pool = torch.tensor, F.adaptive_max_pool2d

    def tensor(data: Any, **options: Any) -> Tensor:
        if not isinstance(data, list | tuple) or not any(isinstance(value, Tensor) for value in data):
            return make(data, **options)
        return torch.stack([torch.as_tensor(value) for value in data]).to(options.get("device"), options.get("dtype"))

    def adaptive_max_pool2d(x: Tensor, size: Any, **options: Any) -> Tensor:
        if not isinstance(size, list | tuple) or not any(isinstance(side, Tensor) for side in size):
            return pool(x, size, **options)
        return F.max_pool2d(x, [int(whole) // int(side) for whole, side in zip(x.shape[-2:], size, strict=True)])

    changes = [
        (torch, "tensor", tensor),
        (F, "adaptive_max_pool2d", adaptive_max_pool2d),
        (torch._C, "_jit_onnx_log", lambda *_: None),  # prints the graph that it cannot write
    ]
    modules = {sys.modules[type(part).__module__] for part in network.modules()}
    changes += [(module, "int", _as_whole) for module in modules if module.__name__.startswith("spandrel.")]
    before = [vars(place).get(name) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(changes, before, strict=True):
            delattr(place, name) if value is None else setattr(place, name, value)


def _as_whole(value: Any) -> Any:
    """What `int` gives, and of a traced number a traced one; 1e-3 is what float32 loses of quotients that are whole."""
    if not isinstance(value, Tensor):
        return int(value)
    return (value + 1e-3).to(torch.int64) if value.is_floating_point() else value


def _trace(network: _Padded, channels: int, multiple: int, opset: int) -> onnx.ModelProto:
    """Tracing keeps every size dynamic as long as no size becomes a Python number; verification finds where one did."""
    buffer = io.BytesIO()
    side = round_up(48, multiple)
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.inference_mode(), _dynamic_sizes(network):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (torch.rand(1, channels, side, side + multiple),),
                buffer,
                dynamo=False,
                opset_version=opset,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": axes, "output": {0: "batch", 2: "out_height", 3: "out_width"}},
            )
        except Exception as error:  # Torch's exporter raises what it and the network stumble over
            raise ModelLoadError(
                f"{type(network.network).__name__} cannot be written as an ONNX graph of any size: {first_line(error)[:300]}"
            ) from None
    return onnx.load_from_string(buffer.getvalue())
