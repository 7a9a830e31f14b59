"""PyTriton over plain ONNX Runtime: Triton's server and its dynamic batching. Run in an environment of its own."""

import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tokenizers import Tokenizer


class Embedder:
    """Texts of several requests arrive as one array of bytes."""

    def __init__(self):
        folder = Path(os.environ["SERVED_MODEL"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.names = [i.name for i in self.session.get_inputs()]

    @batch
    def __call__(self, text):
        encodings = self.tokenizer.encode_batch([row.decode() for row in text.reshape(-1)])
        ids = np.array([e.ids for e in encodings], np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
            "token_type_ids": np.zeros_like(ids),
        }
        return {"embedding": self.session.run(["sentence_embedding"], {name: feeds[name] for name in self.names})[0]}


if __name__ == "__main__":
    port = int(sys.argv[1])
    embedder = Embedder()
    size = embedder.session.get_outputs()[-1].shape[-1]
    lanes = [embedder] * int(os.environ.get("SERVED_LANES", "1"))
    settings = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, log_verbose=0
    )
    with Triton(config=settings) as triton:
        triton.bind(
            model_name="embed",
            infer_func=lanes,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(size,))],
            config=ModelConfig(max_batch_size=16, batcher=DynamicBatcher(max_queue_delay_microseconds=5000)),
        )
        triton.serve()
