"""Browsers: ONNX Runtime Web with a page and a tokenizer in JavaScript."""
