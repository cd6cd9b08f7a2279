"""Restore or enlarge images of any size with an ONNX network."""

__version__ = "0.1.0"
