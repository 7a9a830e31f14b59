"""Make the models that compression is measured on: MiniLM-L6 as a classifier of sentences, a tagger of entities, and a reranker.

    python -m benchmarks.finetune movies|wnut17|reranker [--threads 2]

About ten minutes on two cores; kept under `.cache/models`.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from .data import graded_pairs, movies, named_entities
from .models import CACHE, minilm

EPOCHS, BATCH, LONGEST, RATE, SEED = 2, 32, 64, 1e-4, 0
_TAGGER_EPOCHS, _RERANKER_EPOCHS = 4, 3
_NO_LABEL = -100
"""What transformers' losses leave out."""


def movie_classifier(threads: int = 2) -> Path:
    """Return the classifier's directory, trained once: 2 epochs, batch 32, at most 64 tokens, AdamW at 1e-4."""
    directory = CACHE / "movies"
    if (directory / "done.json").is_file():
        return directory
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    parts = movies()
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm(), num_labels=2, id2label={0: "negative", 1: "positive"}
    )
    train = parts["train"]
    encoded = _encoded(tokenizer, train.texts)
    _train(model, tokenizer, encoded, EPOCHS, threads, lambda rows, _: train.labels[rows])
    scores = {}
    for name in ("dev", "test"):
        part = parts[name]
        hits = []
        for start in range(0, len(part.texts), 64):
            texts = part.texts[start : start + 64]
            answers = _answers(model, tokenizer, texts).argmax(-1)
            hits.append(answers == part.labels[start : start + 64])
        scores[name] = float(np.mean(np.concatenate(hits)))
    _save(model, tokenizer, directory, scores)
    return directory


def entity_tagger(threads: int = 2) -> Path:
    """Return the tagger's directory, trained once on WNUT 2017: 4 epochs, batch 32, at most 64 tokens, AdamW at 1e-4.

    The first token of a word learns the word's label; the others learn none.
    """
    directory = CACHE / "wnut17"
    if (directory / "done.json").is_file():
        return directory
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    torch.manual_seed(SEED)
    train = named_entities()["train"]
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModelForTokenClassification.from_pretrained(
        minilm(), num_labels=len(train.names), id2label=dict(enumerate(train.names))
    )
    fast = tokenizer.backend_tokenizer
    fast.no_padding()
    fast.no_truncation()
    encoded, labels = [], []
    for i, text in enumerate(train.texts):
        ids = fast.encode(text).ids[:LONGEST]
        row = np.full(len(ids), _NO_LABEL)
        for label, token in zip(train.labels[i], train.first_tokens(i, fast), strict=True):
            if 0 <= token < len(ids):
                row[token] = label
        encoded.append({"input_ids": ids})
        labels.append(row)

    def targets(rows: np.ndarray, longest: int) -> np.ndarray:
        return np.stack([np.pad(labels[i], (0, longest - len(labels[i])), constant_values=_NO_LABEL) for i in rows])

    _train(model, tokenizer, encoded, _TAGGER_EPOCHS, threads, targets)
    _save(model, tokenizer, directory, {"epochs": float(_TAGGER_EPOCHS)})
    return directory


def reranker(threads: int = 2) -> Path:
    """Return the directory of a cross-encoder, trained once on rated pairs of 2012 and 2013: 3 epochs, batch 32, AdamW at 1e-4.

    Beside each pair stands its first text with the second one of another pair, which is rated 0. The ratings, from 0 to 1, are learned as
    a regression.
    """
    directory = CACHE / "reranker"
    if (directory / "done.json").is_file():
        return directory
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    rated = graded_pairs()["train"]
    other = np.roll(np.arange(len(rated)), len(rated) // 2)
    pairs = [(row.first, row.second) for row in rated]
    pairs += [(row.first, rated[i].second) for row, i in zip(rated, other, strict=True)]
    scores = np.array([row.score for row in rated] + [0.0] * len(rated), np.float32)
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=1, problem_type="regression")
    encoded = _encoded(tokenizer, *(list(side) for side in zip(*pairs, strict=True)))
    _train(model, tokenizer, encoded, _RERANKER_EPOCHS, threads, lambda rows, _: scores[rows])
    _save(model, tokenizer, directory, {"epochs": float(_RERANKER_EPOCHS)})
    return directory


def _encoded(tokenizer: Any, *texts: list[str]) -> list[dict[str, list[int]]]:
    """Return ids and token types of each text, or pair of texts."""
    made = tokenizer(*texts, truncation=True, max_length=LONGEST, return_token_type_ids=True)
    return [
        {"input_ids": ids, "token_type_ids": types}
        for ids, types in zip(made["input_ids"], made["token_type_ids"], strict=True)
    ]


def _train(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[Mapping[str, Sequence[int]]],
    epochs: int,
    threads: int,
    targets: Callable[[np.ndarray, int], np.ndarray],
) -> None:
    """Train a model in place. `targets` returns the labels of rows, padded to so many tokens."""
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(SEED)
    batches = [b for _ in range(epochs) for b in _buckets(np.array([len(e["input_ids"]) for e in encoded]), rng)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    warm_up = len(batches) // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm_up, (len(batches) - i) / (len(batches) - warm_up))
    )
    model.train()
    with Progress() as bar:
        for rows in bar.track(batches, description="fine-tuning"):
            feeds = tokenizer.pad([dict(encoded[i]) for i in rows], return_tensors="pt")
            labels = torch.from_numpy(targets(rows, feeds["input_ids"].shape[1]))
            loss = model(**feeds, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()


def _answers(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    import torch

    feeds = tokenizer(texts, truncation=True, max_length=LONGEST, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(model(**feeds).logits.numpy())


def _save(model: Any, tokenizer: Any, directory: Path, scores: dict[str, float]) -> None:
    model.save_pretrained(directory)
    tokenizer.model_max_length = LONGEST
    tokenizer.save_pretrained(directory)
    (directory / "done.json").write_text(json.dumps(scores))


def _buckets(lengths: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of rows of similar length, in random order."""
    order = np.lexsort((rng.random(len(lengths)), lengths))
    batches = np.array_split(order, len(lengths) // BATCH)
    return [batches[i] for i in rng.permutation(len(batches))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["movies", "wnut17", "reranker"])
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    make = {"movies": movie_classifier, "wnut17": entity_tagger, "reranker": reranker}[given.task]
    made = make(threads=given.threads)
    print(made, (made / "done.json").read_text())
