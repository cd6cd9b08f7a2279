"""An existing ONNX file made dynamic in batch, height and width, and proven to compute the same."""
