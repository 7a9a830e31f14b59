"""Mobile runtimes: ONNX Runtime Mobile, ExecuTorch, LiteRT and Core ML."""
