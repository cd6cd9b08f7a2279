"""What `fuzz.py` feeds: small sound images, damaged ones, and models."""

import random

import numpy as np
from onnx import TensorProto, helper

from sr_tile.images.vips import vips

SUFFIXES = ("png", "jpg", "tif", "webp", "avif")


def seeds() -> dict[str, list[bytes]]:
    """Small sound files of each format, with what decoders have branches for: depths, alpha, interlacing, EXIF, tiles."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 52, 4), dtype=np.uint8)
    found: dict[str, list[bytes]] = {suffix: [] for suffix in SUFFIXES}
    options = {
        "png": [{}, {"interlace": True}, {"palette": True}, {"bitdepth": 4}],
        "jpg": [{}, {"interlace": True}, {"restart_interval": 2}, {"subsample_mode": "off"}],
        "tif": [{}, {"tile": True, "compression": "deflate"}, {"compression": "lzw"}, {"compression": "jpeg"}],
        "webp": [{}, {"lossless": True}],
        "avif": [{"effort": 0}, {"effort": 0, "lossless": True}],
    }
    for suffix in SUFFIXES:
        for channels in (1, 3) if suffix == "jpg" else (1, 3, 4):
            space = "b-w" if channels == 1 else "srgb"
            image = vips().Image.new_from_array(pixels[..., :channels].squeeze()).copy(interpretation=space)
            for option in options[suffix]:
                for turned in (False, True):
                    if turned:
                        image = image.copy()
                        image.set_type(vips().GValue.gint_type, "orientation", 6)
                    try:
                        found[suffix].append(image.write_to_buffer(f".{suffix}", **option))
                    except vips().Error:  # such as a palette of gray
                        continue
    return found


def mutate(content: bytes, dice: random.Random) -> bytes:
    """The content with one to eight faults, mostly one: bytes changed, cut, doubled, put in, or set to extremes."""
    data = bytearray(content)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        near = 64 if dice.random() < 0.4 else len(data)  # headers are short, and where most branches are
        at = dice.randrange(max(1, min(near, len(data))))
        kind = dice.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at : at + 4] = dice.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
        elif kind == 2:
            del data[at : at + dice.choice([1, 2, 4, 100])]
        elif kind == 3:
            data[at:at] = dice.randbytes(dice.choice([1, 2, 16, 33]))
        elif kind == 4:
            data[at:at] = data[at : at + dice.choice([4, 16, 200])]
        elif dice.random() < 0.3:
            del data[dice.randrange(len(data) + 1) :]
    return bytes(data)


def model(metadata: str | None = None) -> bytes:
    """The smallest model: its output is its input."""
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", faces[:1], faces[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, {"sr_tile": '{"scale": 1, "multiple": 1}' if metadata is None else metadata})
    return made.SerializeToString()
