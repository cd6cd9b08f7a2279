"""Names of devices to providers of ONNX Runtime."""

import re
from dataclasses import dataclass, replace

from sr_tile.errors import ArgumentError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_INSTALL = {
    "cuda": "install sr-tile[cuda] on Linux or Windows with an NVIDIA driver",
    "tensorrt": "install sr-tile[tensorrt] on Linux or Windows with an NVIDIA driver",
    "directml": "install onnxruntime-directml on Windows in place of onnxruntime",
    "coreml": "install onnxruntime on macOS",
}


@dataclass(frozen=True)
class Device:
    """A device by kind and number, with options of its provider beyond our own, as ONNX Runtime's manual names them.

    >>> str(Device.parse("cuda:1")), str(Device.parse("cuda")), str(Device.parse("cpu"))
    ('cuda:1', 'cuda:0', 'cpu')
    """

    kind: str
    index: int = 0
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Read `cpu`, `cuda`, `cuda:1`, ...

        Raises:
            ArgumentError: no such kind of device, or a number that is none.
        """
        match = re.fullmatch(r"([a-z]+)(?::(\d+))?", text.strip().lower())
        if not match or match[1] not in PROVIDERS or (match[2] and match[1] in ("cpu", "coreml")):
            kinds = ", ".join(["auto", *PROVIDERS])
            raise ArgumentError(f"device {text!r} is not known; choose one of {kinds}, with a number as in cuda:1")
        return cls(match[1], int(match[2] or 0))

    def __str__(self) -> str:
        return self.kind if self.kind in ("cpu", "coreml") else f"{self.kind}:{self.index}"

    @property
    def nvidia(self) -> bool:
        """True where CUDA computes."""
        return self.kind in ("cuda", "tensorrt")

    @property
    def graphs(self) -> bool:
        """True where calls are recorded as CUDA graphs."""
        return self.kind == "cuda" and dict(self.options).get("enable_cuda_graph", "").lower() in ("1", "true")

    def exact(self) -> "Device":
        """The same device, with products of float32 in float32, and nothing recorded."""
        if self.kind != "cuda":
            return self
        kept = {name: value for name, value in self.options if name != "enable_cuda_graph"}
        return replace(self, options=tuple((kept | {"use_tf32": "0"}).items()))

    @property
    def provider(self) -> str:
        """ONNX Runtime's name for the provider."""
        return PROVIDERS[self.kind]

    @property
    def install_hint(self) -> str:
        """What to install where the provider is missing."""
        return _INSTALL.get(self.kind, "reinstall onnxruntime")

    def provider_options(self) -> list[tuple[str, dict[str, str]]]:
        """Providers with their options, the device's own first, the CPU last for operators it lacks."""
        cpu: tuple[str, dict[str, str]] = (PROVIDERS["cpu"], {})
        if self.kind == "cpu":
            return [cpu]
        options: dict[str, str] = {} if self.kind == "coreml" else {"device_id": str(self.index)}
        if self.kind == "cuda":
            # Exhaustive search costs seconds for each new shape; growth in powers of two wastes up to half the memory.
            options |= {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
        own = (self.provider, options | dict(self.options))
        return [own, *Device("cuda", self.index).provider_options()] if self.kind == "tensorrt" else [own, cpu]
