"""Capture a source as an ONNX graph and load the reference that judges it."""
