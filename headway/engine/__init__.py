"""Build TensorRT engines; a plan bundle carries this folder whole."""
