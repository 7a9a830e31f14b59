"""FastAPI over plain ONNX Runtime, without batching: what a person writes who has exported the model."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

folder = Path(os.environ["SERVED_MODEL"])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
names = [i.name for i in session.get_inputs()]
app = FastAPI()


class Inputs(BaseModel):
    inputs: list[str]


@app.get("/health")
def health() -> dict[str, bool]:
    return {"ready": True}


@app.post("/embed")
def embed(body: Inputs) -> list[list[float]]:
    encodings = tokenizer.encode_batch(body.inputs)  # the file pads to the longest
    ids = np.array([e.ids for e in encodings])
    feeds = {
        "input_ids": ids,
        "attention_mask": np.array([e.attention_mask for e in encodings]),
        "token_type_ids": np.zeros_like(ids),
    }
    return session.run(["sentence_embedding"], {name: feeds[name] for name in names})[0].tolist()
