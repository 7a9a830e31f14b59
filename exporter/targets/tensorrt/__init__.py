"""NVIDIA GPUs: TensorRT, TensorRT-RTX and ONNX Runtime's GPU providers."""
