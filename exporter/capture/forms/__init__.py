"""Readers of the forms in which other tools write compressed and fused `.onnx` graphs: one module a form."""
