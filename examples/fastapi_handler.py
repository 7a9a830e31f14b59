"""Serve a bundle over HTTP: labels of a text classifier, or embeddings.

pip install fastapi uvicorn
HEADWAY_BUNDLE=build/bundle uvicorn --app-dir examples fastapi_handler:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import headway
from headway.errors import UsageError

MOST_TEXTS = 64
MOST_CHARACTERS = 20_000


class Texts(BaseModel):
    """What a client sends. A text longer than the model takes is cut, as the source's tokenizer cuts it."""

    texts: list[Annotated[str, Field(max_length=MOST_CHARACTERS)]] = Field(min_length=1, max_length=MOST_TEXTS)


class Label(BaseModel):
    """The likeliest class of one text."""

    label: str
    probability: float


@asynccontextmanager
async def open_bundle(app: FastAPI) -> AsyncIterator[None]:
    """Open the bundle once, before the first request. A damaged bundle ends the start, not a request."""
    threads = os.environ.get("HEADWAY_THREADS")
    bundle = headway.open(os.environ["HEADWAY_BUNDLE"], threads=int(threads) if threads else None)
    bundle.check_files()
    app.state.bundle = bundle
    yield


app = FastAPI(title="Headway bundle", lifespan=open_bundle)


@app.get("/health")
def health() -> dict[str, str]:
    """Say what is served. The checksum tells which model it is."""
    manifest = app.state.bundle.manifest
    return {"task": manifest.task, "target": manifest.target, "sha256": manifest.files[manifest.artifact]["sha256"]}


# Plain functions: FastAPI runs them in threads, and one bundle serves any number of threads.
@app.post("/labels")
def labels(request: Texts) -> list[Label]:
    """Return a label and its probability for each text."""
    try:
        answers = app.state.bundle.labels(request.texts)
    except UsageError as error:  # the bundle is for another task
        raise HTTPException(400, str(error)) from error
    return [Label(label=label, probability=probability) for label, probability in answers]


@app.post("/embeddings")
def embeddings(request: Texts) -> list[list[float]]:
    """Return a vector for each text."""
    manifest = app.state.bundle.manifest
    if "sentence_embedding" not in {output.name for output in manifest.outputs}:
        raise HTTPException(400, f"the bundle is for {manifest.task} and gives no sentence embeddings")
    return app.state.bundle(request.texts)["sentence_embedding"].tolist()
