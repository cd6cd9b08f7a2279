"""Layer normalisation over channels and the linear layer behind it, on tokens (..., C), with their affine parts folded.

Three identities do the folding. With x^ the normalised token, before scale and shift:

* W (gamma * x^ + beta) + b  =  (W gamma) x^ + (b + W beta): scale and shift move into the linear layer.
* The entries of x^ sum to zero, so W + v 1^T acts like W for every vector v. Feeding x^ + 1 instead of x^, the column
  sums of a suitable v give any bias for free: (W - mean(W) + b 1^T / C) (x^ + 1) = W x^ + b. LayerNormalization adds
  the 1.
* Subtracting the mean is a matrix, I - 11^T / C, so a fast matrix product can do it.

ONNX Runtime's LayerNormalization pays per token, so for few channels the mean goes through a matrix product instead:
the figures are in bench/export_variants.md.
"""

from __future__ import annotations

import numpy as np

from sr_tile.export.graph_writer import Array, GraphWriter

FEW_CHANNELS = 64
"""Up to here normalisation is cheaper as a matrix product."""


def normalise(graph: GraphWriter, tokens: str, width: int, epsilon: float, biased: bool = True) -> str:
    """Normalise every token over its last axis and add a constant, ready for `after_norm` weights.

    Args:
        graph: where the nodes go.
        tokens: (..., width).
        width: channels.
        epsilon: added to the variance.
        biased: whether anything is to be carried by the constant; without it, zero stays zero to the last bit.

    Returns:
        x^ + 1 for many channels, (x^ + 1) / sqrt(width) for few: `after_norm` knows which. Not biased: without the 1.
    """
    if width > FEW_CHANNELS:
        ones = graph.floats(np.ones(width))
        scale = (ones, ones) if biased else (ones,)
        return graph.op("LayerNormalization", tokens, *scale, axis=-1, epsilon=epsilon)
    centred = graph.linear(tokens, np.eye(width) - 1 / width)
    # Without its last axis the sum is one long row, which ONNX Runtime walks ten times faster than rows of one.
    squares = graph.op("ReduceSumSquare", centred, graph.ints(-1), keepdims=0)
    length = graph.op("Sqrt", graph.op("Add", squares, graph.floats(epsilon * width)))
    unit = graph.op("Div", centred, graph.op("Unsqueeze", length, graph.ints(-1)))
    return graph.op("Add", unit, graph.floats(width**-0.5)) if biased else unit


def after_norm(weight: Array, bias: Array, gamma: Array, beta: Array) -> Array:
    """Weight of a linear layer that acts on the output of `normalise` and has scale, shift and bias inside.

    Args:
        weight: (out, in) of the layer.
        bias: (out,) of the layer.
        gamma: (in,) scale of the normalisation.
        beta: (in,) shift of the normalisation.

    Returns:
        (out, in).
    """
    width = weight.shape[1]
    scaled = weight * gamma
    folded = scaled - scaled.mean(axis=1, keepdims=True) + (bias + weight @ beta)[:, None] / width
    return folded * width**0.5 if width <= FEW_CHANNELS else folded
