"""A small corpus in shards, and the encoder of a model that reads it."""

import json
from pathlib import Path

import numpy as np

from headway.calibration.corpus_shards import Corpus, open_corpus
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_encoder
from headway.text import TextEncoder

from tests.support import models

WORDS = [w for w in models.WORDS if w.isalpha()]


def texts(count: int = 120) -> list[str]:
    """Return texts of 1 to 20 words, some of them twice."""
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 21))) for _ in range(count)]


def write_corpus(path: Path, rows: int = 10, lines: list[str] | None = None) -> Corpus:
    """Write texts to a file, and return them in shards."""
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in (texts() if lines is None else lines)))
    return open_corpus([path], rows=rows)


def encoder_of(source: Path, folder: Path) -> TextEncoder:
    """Return the encoder of a source, its tokenizer written to `folder`."""
    return source_encoder(open_source(str(source)), folder)
