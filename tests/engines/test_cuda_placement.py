"""Every operator of a network runs on the GPU: by ONNX Runtime's own CUDA provider on one that is pretended."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.fake_cuda import on_fake_gpu
from support.fake_cuda.calls import X2
from support.toys import conv_model

from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import Device


def placed(model, tmp_path):
    """(operator, provider, shapes of its outputs) of each node of a call, by ONNX Runtime's profile."""
    session = open_session(
        model, Device("cuda"), "model", enable_profiling=True, profile_file_prefix=str(tmp_path / "profile")
    )
    entry = session.get_inputs()[0]
    dtype = {"float16": np.float16, "float": np.float32}.get(entry.type[7:-1]) or np.dtype(entry.type[7:-1])
    session.run(None, {entry.name: np.zeros((2, 3, 128, 128), dtype)})
    events = [event["args"] for event in json.loads(Path(session.end_profiling()).read_text()) if "args" in event]
    return [
        (event["op_name"], event["provider"], [tuple(*shape.values()) for shape in event["output_type_shape"]])
        for event in events
        if event.get("provider")
    ]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("half", [False, True])
@on_fake_gpu()
def test_pixels_become_numbers_and_pixels_again_on_the_gpu(tmp_path, half, dtype):
    import onnx

    from sr_tile.engines.integer_ends import with_integer_ends
    from sr_tile.export.precision import convert

    path = conv_model(tmp_path / "whole.onnx")
    if half:
        convert(path, tmp_path / "half.onnx", "fp16")
        path = tmp_path / "half.onnx"
    nodes = placed(with_integer_ends(onnx.load(path), ("input", "output"), (0.0, 255.0), np.dtype(dtype)), tmp_path)
    assert {"Cast", "Round", "ReduceSum"} <= {operator for operator, _, _ in nodes}
    assert {provider for _, provider, _ in nodes} == {"CUDAExecutionProvider"}
    assert not any(operator.startswith("Memcpy") for operator, _, _ in nodes)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["clean-x2", "clean-x4", "denoise"])
@on_fake_gpu()
def test_every_pixel_of_a_bundled_model_stays_on_the_gpu(tmp_path, name, precision):
    from sr_tile.export.precision import convert

    path = X2.with_name(f"{name}.onnx")
    if precision == "fp16":
        path = Path(shutil.copy(path, tmp_path / "whole.onnx"))
        convert(path, tmp_path / "half.onnx", "fp16")
        path = tmp_path / "half.onnx"
    nodes = placed(path, tmp_path)
    assert len(nodes) > 5
    for operator, provider, shapes in nodes:
        assert not operator.startswith("Memcpy")
        assert provider == "CUDAExecutionProvider" or all(math.prod(shape) < 64 for shape in shapes), operator


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [("NAFNet", {"width": 8}), ("SCUNet", {"config": [1] * 7})])
@on_fake_gpu()
def test_every_pixel_of_an_exported_network_stays_on_the_gpu(tmp_path, name, width):
    from support import reference_networks

    from sr_tile.export.architectures import detect

    network = reference_networks.randomise(getattr(reference_networks, name)(**width), 1)
    graph = detect({key: value.numpy() for key, value in network.state_dict().items()}).graph(18)
    nodes = placed(graph.SerializeToString(), tmp_path)
    for operator, provider, shapes in nodes:
        assert provider == "CUDAExecutionProvider" or all(math.prod(shape) < 4096 for shape in shapes), operator
    # Of SCUNet's indices some parts of one number are moved, which keeps it from being recorded as a CUDA graph.
    copies = [shape for operator, _, shapes in nodes if operator.startswith("Memcpy") for shape in shapes]
    assert all(math.prod(shape) == 1 for shape in copies)
    assert name == "SCUNet" or not copies
