"""ncnn's networks (`.param` with `.bin`) to ONNX: Upscayl, Real-ESRGAN, waifu2x and Real-CUGAN publish theirs so.

param      the text of the graph: layers, blobs, parameters
weights    the numbers behind it, in the order of the layers
operators  one function an ncnn layer, to ONNX operators
convert    strings them together; what the network cuts off its border is padded, so that the scale is exact
"""

from sr_tile.export.ncnn.convert import load_ncnn
from sr_tile.export.ncnn.param import files_of, is_ncnn

__all__ = ["files_of", "is_ncnn", "load_ncnn"]
