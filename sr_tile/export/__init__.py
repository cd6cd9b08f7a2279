"""From a Torch checkpoint to a dynamic ONNX graph, checked and described; needs the extra `export`."""
