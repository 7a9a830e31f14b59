"""Causal classifiers answer at the last token that is not padding: they export where config and tokenizer agree on padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from headway.bundle import Bundle
from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source

from tests.support import models

COMMON = {
    "vocab_size": models.VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
GPT2 = {"vocab_size": models.VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 66}


def classifier(directory: Path, family: str, settings: dict[str, Any], **changes: Any) -> Path:
    """Write a random causal classifier of three classes."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings, num_labels=3, **changes)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(directory)
    models.make_tokenizer(directory)
    return directory


@pytest.mark.parametrize(
    ("family", "settings"), [("GPT2", GPT2), ("Llama", COMMON), ("Qwen3", COMMON | {"head_dim": 8})]
)
def test_scores_are_the_pipelines(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    source = classifier(tmp_path / "source", family, settings, pad_token_id=0)
    bundle = Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    texts = ["the PRICE of bread", "a", "", "Rain [MASK] and time " * 3]
    pipeline = transformers.pipeline("text-classification", model=str(source), device="cpu", top_k=None)
    for ours, theirs in zip(bundle.scores(texts), pipeline(texts), strict=True):
        wanted = {answer["label"]: answer["score"] for answer in theirs}
        np.testing.assert_allclose([ours[name] for name in wanted], list(wanted.values()), atol=1e-5)
    together, alone = bundle(texts)["logits"], [bundle([text])["logits"][0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("padding", "told"), [(None, "has no pad_token_id"), (3, "has pad_token_id = 3")])
def test_padding_that_the_model_does_not_know(padding: int | None, told: str, tmp_path: Path) -> None:
    source = classifier(tmp_path, "GPT2", GPT2, pad_token_id=padding)
    with pytest.raises(
        SourceError, match=rf"{told}, and the tokenizer pads with '\[PAD\]', 0: .*Set pad_token_id to 0"
    ):
        load_reference(open_source(str(source)))
