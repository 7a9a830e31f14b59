"""Train a small BERT classifier from nothing, as a stand-in for a model of your own.

python examples/text_classifier/train.py build/tickets/train.jsonl build/tickets/model

A row of the file has `text` and `label`. What is written is an ordinary Hugging Face directory.
"""

import argparse
import json
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

LONGEST = 64


def make_tokenizer(texts: list[str], size: int = 2000) -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer learned from the texts."""
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=size, min_frequency=2, show_progress=False)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=pieces._tokenizer, model_max_length=LONGEST, **special)


def train(rows: list[dict[str, str]], out: Path, epochs: int = 6, seed: int = 0) -> float:
    """Train on rows of text and label and write the model to `out`; return the mean loss of the last epoch."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # layers this small take longer on several threads
    texts = [row["text"] for row in rows]
    names = sorted({row["label"] for row in rows})
    targets = torch.tensor([names.index(row["label"]) for row in rows])
    tokenizer = make_tokenizer(texts)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    model.train()
    loss = float("nan")
    for epoch in range(epochs):
        losses = []
        for batch in torch.randperm(len(texts)).split(32):
            encoded = tokenizer([texts[i] for i in batch], padding=True, truncation=True, return_tensors="pt")
            batch_loss = cross_entropy(model(**encoded).logits, targets[batch])
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            losses.append(batch_loss.item())
        loss = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}: loss {loss:.3f}")
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return loss


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train a small text classifier.")
    parser.add_argument("data", type=Path, help="JSON lines with text and label")
    parser.add_argument("out", type=Path, help="directory of the model")
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.data.read_text(encoding="utf-8").splitlines() if line.strip()]
    train(rows, given.out, given.epochs)
    print(f"model: {given.out}")


if __name__ == "__main__":
    main()
