"""Makes the sentence classifier that compression is measured on: MiniLM-L6 fine-tuned on movie sentences.

    python -m benchmarks.finetune [--threads 2]

About ten minutes on two cores; kept under `.cache/models/movies`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import Progress

from .data import movies
from .models import CACHE, minilm

EPOCHS, BATCH, LONGEST, RATE, SEED = 2, 32, 64, 1e-4, 0


def movie_classifier(threads: int = 2) -> Path:
    """Return the classifier's directory, trained once: 2 epochs, batch 32, at most 64 tokens, AdamW at 1e-4."""
    directory = CACHE / "movies"
    if (directory / "done.json").is_file():
        return directory
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    base = minilm()
    parts = movies()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2, id2label={0: "negative", 1: "positive"}
    )
    train = parts["train"]
    encoded = tokenizer(train.texts, truncation=True, max_length=LONGEST)["input_ids"]
    rng = np.random.default_rng(SEED)
    batches = [b for _ in range(EPOCHS) for b in _buckets(np.array([len(e) for e in encoded]), rng)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    warm_up = len(batches) // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm_up, (len(batches) - i) / (len(batches) - warm_up))
    )
    model.train()
    with Progress() as bar:
        for rows in bar.track(batches, description="fine-tuning"):
            feeds = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, return_tensors="pt")
            loss = model(**feeds, labels=torch.from_numpy(train.labels[rows])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()
    scores = {}
    for name in ("dev", "test"):
        part = parts[name]
        hits = []
        for start in range(0, len(part.texts), 64):
            feeds = tokenizer(
                part.texts[start : start + 64], truncation=True, max_length=LONGEST, padding=True, return_tensors="pt"
            )
            with torch.inference_mode():
                answers = model(**feeds).logits.argmax(-1).numpy()
            hits.append(answers == part.labels[start : start + 64])
        scores[name] = float(np.mean(np.concatenate(hits)))
    model.save_pretrained(directory)
    tokenizer.model_max_length = LONGEST
    tokenizer.save_pretrained(directory)
    (directory / "done.json").write_text(json.dumps(scores))
    return directory


def _buckets(lengths: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of rows of similar length, in random order."""
    order = np.lexsort((rng.random(len(lengths)), lengths))
    batches = np.array_split(order, len(lengths) // BATCH)
    return [batches[i] for i in rng.permutation(len(batches))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    made = movie_classifier(threads=parser.parse_args().threads)
    print(made, (made / "done.json").read_text())
