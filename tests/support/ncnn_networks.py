"""Small ncnn networks, written by hand, and what ncnn itself makes of them."""

import struct
from pathlib import Path

import numpy as np

FLOAT16 = struct.pack("<I", 0x01306B47)


class NcnnWriter:
    """Writes `.param` and `.bin` layer by layer."""

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        self.lines = [f"Input in 0 1 in 2={channels}"]
        self.weights = b""
        self._random = np.random.default_rng(seed)
        self._blobs = 1

    def layer(self, kind: str, bottoms: str, tops: str, parameters: str = "") -> None:
        ins, outs = bottoms.split(), tops.split()
        self._blobs += len(outs)
        self.lines.append(f"{kind} {tops.split()[0]}_l {len(ins)} {len(outs)} {bottoms} {tops} {parameters}".strip())

    def numbers(self, *shape: int, tag: bytes | None = None, gain: float = 1.0) -> np.ndarray:
        """Random weights, written with a tag (four bytes) or, without one, plain."""
        values = (self._random.standard_normal(shape) * gain / max(1, np.prod(shape[1:])) ** 0.5).astype(np.float32)
        data = values.astype("<f2").tobytes() if tag == FLOAT16 else values.tobytes()
        self.weights += (tag or b"") + data + bytes(-len(data) % 4)
        return values

    def conv(self, bottom: str, top: str, inside: int, out: int, size: int = 3, more: str = "", tag=bytes(4)) -> None:
        """A convolution with bias that keeps the size."""
        count = out * inside * size * size
        parameters = f"0={out} 1={size} 5=1 6={count} {more}"
        if "4=" not in more:
            parameters += f" 4={size // 2}"
        self.layer("Convolution", bottom, top, parameters)
        self.numbers(out, inside, size, size, tag=tag)
        self.numbers(out, gain=0.1)

    def save(self, path: Path) -> Path:
        """Write both files; returns the `.param`."""
        path.write_text(f"7767517\n{len(self.lines)} {self._blobs}\n" + "\n".join(self.lines) + "\n")
        path.with_suffix(".bin").write_bytes(self.weights)
        return path


def run_ncnn(path: Path, picture_chw: np.ndarray) -> np.ndarray:
    """ncnn's own answer, in float32 on the CPU."""
    import ncnn

    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = 1
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{option}", False)
    assert network.load_param(str(path)) == 0
    assert network.load_model(str(path.with_suffix(".bin"))) == 0
    extractor = network.create_extractor()
    pixels = np.ascontiguousarray(picture_chw)  # ncnn keeps no reference to it
    extractor.input(network.input_names()[0], ncnn.Mat(pixels))
    code, output = extractor.extract(network.output_names()[0])
    assert code == 0
    return np.array(output)
