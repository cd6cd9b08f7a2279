"""Reference networks with random weights, and what the tests do with them."""

import numpy as np
import onnxruntime
import torch
from support import reference_networks as reference

SMALL_SCUNET = {"config": (2, 1, 1, 2, 1, 1, 2)}
SMALL_NAFNET = {"width": 16, "encoders": (1, 2), "middle": 1, "decoders": (1, 1)}


def scunet(channels=3, config=(4,) * 7, seed=0, dim=64):
    return reference.randomise(reference.SCUNet(channels, config, dim), seed)


def nafnet(channels=3, width=32, encoders=(1, 1, 1, 28), middle=1, decoders=(1, 1, 1, 1), local_side=None):
    return reference.randomise(reference.NAFNet(channels, width, encoders, middle, decoders, local_side), 0)


def state_of(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


def runner(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda picture: session.run(None, {"input": picture})[0]


def error(run, network, batch, channels, height, width):
    """Largest difference to the reference over the largest value of the reference."""
    picture = np.random.default_rng(height).random((batch, channels, height, width), dtype=np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(picture)).numpy()
    got = run(picture)
    assert got.shape == wanted.shape
    return np.abs(got - wanted).max() / np.abs(wanted).max()
