"""LitServe over plain ONNX Runtime, with its own batching. Run in an environment of its own."""

import os
import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Embedder(litserve.LitAPI):
    """Texts of one request are joined with those of others, up to `max_batch_size` requests."""

    def setup(self, device):
        folder = Path(os.environ["SERVED_MODEL"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.names = [i.name for i in self.session.get_inputs()]

    def decode_request(self, request):
        return request["inputs"]

    def batch(self, inputs):
        return inputs

    def predict(self, groups):
        encodings = self.tokenizer.encode_batch([text for group in groups for text in group])
        ids = np.array([e.ids for e in encodings])
        feeds = {
            "input_ids": ids,
            "attention_mask": np.array([e.attention_mask for e in encodings]),
            "token_type_ids": np.zeros_like(ids),
        }
        rows = self.session.run(["sentence_embedding"], {name: feeds[name] for name in self.names})[0]
        ends = np.cumsum([len(group) for group in groups])[:-1]
        return np.split(rows, ends)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output.tolist()


if __name__ == "__main__":
    workers = int(os.environ.get("SERVED_LANES", "1"))
    api = Embedder(max_batch_size=16, batch_timeout=0.005, api_path="/embed")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
