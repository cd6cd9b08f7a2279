"""Reducing by Lanczos, written out in NumPy: what libvips is held against."""

import numpy as np


def lanczos(values: np.ndarray, length: int) -> np.ndarray:
    """The first axis reduced to `length` in float64: three lobes, as wide as the reduction, edges repeated.

    Positions are rounded to 1/64 of a pixel, as libvips does; without that, up to 2 steps of 8 bits lie between.
    """
    before = len(values)
    shrink = before / length
    centres = np.floor(((np.arange(length) + 0.5) * shrink - 0.5) * 64 + 0.5) / 64
    reach = int(np.ceil(3 * shrink)) + 1
    taps = np.floor(centres)[:, None].astype(int) + np.arange(-reach, reach + 1)
    distance = (taps - centres[:, None]) / shrink
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    gathered = values[np.clip(taps, 0, before - 1)]
    return np.einsum("ot,ot...->o...", weights, gathered)


def to_light(unit):
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)


def from_light(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def reduced(pixels_hwc, height, width, linear=False):
    """In the steps of the number type, not rounded; alpha weights the colours."""
    top = 1 if pixels_hwc.dtype == np.float32 else np.iinfo(pixels_hwc.dtype).max
    unit = pixels_hwc.astype(np.float64) / top
    has_alpha = unit.shape[2] in (2, 4)
    colours = unit[..., :-1] if has_alpha else unit
    if linear:
        colours = to_light(colours)
    if has_alpha:
        colours = np.concatenate([colours * unit[..., -1:], unit[..., -1:]], axis=2)
    colours = lanczos(lanczos(colours, height).swapaxes(0, 1), width).swapaxes(0, 1)
    if has_alpha:
        alpha = colours[..., -1:]
        colours = np.concatenate([colours[..., :-1] / np.maximum(alpha, 1e-9), alpha], axis=2)
    colours = np.clip(colours, 0, 1)
    if linear:
        last = colours.shape[2] - has_alpha
        colours[..., :last] = from_light(colours[..., :last])
    return colours * top
