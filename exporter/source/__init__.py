"""Read what the user brings: a directory, an ONNX file or a factory."""
