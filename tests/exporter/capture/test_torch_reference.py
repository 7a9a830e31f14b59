"""The torch model that judges."""

from pathlib import Path

import numpy as np

from headway.exporter.capture.capture import load_reference
from headway.exporter.capture.torch_reference import first_lines
from headway.exporter.source.source import open_source


def test_it_says_who_judges_and_begins_with_text(bert_classifier: Path) -> None:
    import transformers

    reference, _ = load_reference(open_source(str(bert_classifier)))
    assert reference.judge == f"transformers {transformers.__version__}, BertForSequenceClassification"
    texts = ["the price of bread", "rain"]
    pipe = transformers.pipeline("text-classification", model=str(bert_classifier), device="cpu")
    wanted = [[r["score"] for r in sorted(row, key=lambda r: r["label"])] for row in pipe(texts, top_k=None)]
    logits = reference.from_text(texts).outputs["logits"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(shares - np.array(wanted)).max() < 1e-6


def test_a_message_is_cut_to_its_first_lines() -> None:
    assert first_lines(ValueError("a\n\nb\nc\nd")) == "a b c"
    assert first_lines(ValueError()) == "ValueError"
