"""Models of word embeddings as sentence-transformers saves them: a student with an LSTM or convolutions, pooled."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

WORDS = [
    "PADDING_TOKEN", "the", "a", "model", "text", "Apple", "apple", "u.s.", ",", "reads", "words", "of", "many",
    "films", "is", "good", "bad", "news", "market", "don't", "and", "to", "in", "it", "on", "for", "was", "with",
]  # fmt: skip


def make_word_model(
    directory: Path,
    layers: Sequence[str],
    *,
    words: Sequence[str] = WORDS,
    stop: Collection[str] = ("the",),
    lower: bool = False,
    size: int = 16,
    hidden: int = 12,
) -> Any:
    """Write a model whose modules between embeddings and pooling are `layers` (LSTM, CNN, WordWeights); return it, opened."""
    torch.manual_seed(1)
    table = torch.randn(len(words), size)
    table[0] = 0
    tokenizer = WhitespaceTokenizer(list(words), stop_words=stop, do_lower_case=lower)
    parts: list[Any] = [modules.WordEmbeddings(tokenizer, table, max_seq_length=64)]
    width = size
    for layer in layers:
        if layer == "WordWeights":
            parts.append(modules.WordWeights(list(words), {"model": 0.5, "apple": 2.0}))
            continue
        part = modules.LSTM(width, hidden, num_layers=2) if layer == "LSTM" else modules.CNN(width, hidden, [1, 3, 5])
        width = part.get_embedding_dimension()
        parts.append(part)
    model = SentenceTransformer(modules=[*parts, modules.Pooling(width)], device="cpu").eval()
    model.save(str(directory))
    return model
