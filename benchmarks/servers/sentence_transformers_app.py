"""The usual way: FastAPI over sentence-transformers in PyTorch, one request at a time in a pool of threads."""

import os

from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(os.environ["SERVED_MODEL"], device="cpu")
app = FastAPI()


class Inputs(BaseModel):
    inputs: list[str]


@app.get("/health")
def health() -> dict[str, bool]:
    return {"ready": True}


@app.post("/embed")
def embed(body: Inputs) -> list[list[float]]:
    return model.encode(body.inputs, normalize_embeddings=True).tolist()
