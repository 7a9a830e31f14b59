"""Triton Inference Server by PyTriton over plain ONNX Runtime, with Triton's own batching. Run in an environment of its own."""

import os
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tokenizers import Tokenizer


def embedder(folder):
    """Return a function from texts `[n, 1]` to vectors, with a session of its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = [i.name for i in session.get_inputs()]

    @batch
    def embed(text):
        encodings = tokenizer.encode_batch([row[0].decode() for row in text])
        ids = np.array([e.ids for e in encodings])
        feeds = {
            "input_ids": ids,
            "attention_mask": np.array([e.attention_mask for e in encodings]),
            "token_type_ids": np.zeros_like(ids),
        }
        return session.run(["sentence_embedding"], {name: feeds[name] for name in names})

    return embed


if __name__ == "__main__":
    # Triton's Python backend looks for the library of this interpreter, and would find that of another patch release.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    folder, port = Path(os.environ["SERVED_MODEL"]), int(sys.argv[1])
    lanes = int(os.environ.get("SERVED_LANES", "1"))
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        allow_grpc=True,  # PyTriton itself asks by it
        grpc_address="127.0.0.1",
        grpc_port=port + 1,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="embed",
            infer_func=[embedder(folder) for _ in range(lanes)],
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                batching=True, max_batch_size=16, batcher=DynamicBatcher(max_queue_delay_microseconds=5000)
            ),
        )
        triton.serve()
