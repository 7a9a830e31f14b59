"""`encode` and `rank` of a bundle give what sentence-transformers' own calls give."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import headway
from headway.errors import UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models
from tests.support.order import check_order

TEXTS = ["the train runs on time", "BREAD and rain", "a large language model with small heads " * 12]
PROMPTS = {"query": "the price of: ", "document": ""}


def test_prompts_and_dimensions_at_call_time(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    source = models.make_sentence_model(tmp_path / "source", normalize=False)
    (source / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    export(Recipe(source=str(source)), tmp_path / "out")
    bundle, library = headway.open(tmp_path / "out"), SentenceTransformer(str(source), device="cpu")
    assert bundle.manifest.prompts == PROMPTS
    for given in (
        {},
        {"prompt_name": "query"},
        {"prompt_name": "document"},
        {"prompt": "a model: "},
        {"prompt_name": "query", "truncate_dim": 12},
    ):
        for normalize in (False, True):
            wanted = library.encode(TEXTS, normalize_embeddings=normalize, **given)  # type: ignore[arg-type]
            np.testing.assert_allclose(bundle.encode(TEXTS, normalize=normalize, **given), wanted, atol=2e-6)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no prompt 'passage'"):
        bundle.encode(TEXTS, prompt_name="passage")
    assert bundle.encode([]).shape == (0, 32)


def test_a_cross_encoder_ranks_as_its_library_does(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    model = models.make_model(tmp_path / "bert", "bert", "text-classification", num_hidden_layers=1, num_labels=1)
    CrossEncoder(str(model), device="cpu", activation_fn=torch.nn.Sigmoid()).save_pretrained(str(tmp_path / "source"))
    export(Recipe(source=str(tmp_path / "source")), tmp_path / "out")
    bundle = headway.open(tmp_path / "out")
    wanted = CrossEncoder(str(tmp_path / "source"), device="cpu").predict([("small price", text) for text in TEXTS])
    got = bundle.rank("small price", TEXTS, top_k=2)
    assert len(got) == 2
    check_order([r.index for r in got], wanted, 1e-6)
    np.testing.assert_allclose([r.score for r in got], [wanted[r.index] for r in got], atol=1e-6)
    assert [r.text for r in got] == [TEXTS[r.index] for r in got]
    assert bundle.rank("small price", []) == []
    with pytest.raises(UsageError, match="top_k is 0"):
        bundle.rank("small price", TEXTS, top_k=0)


def test_a_ranking_needs_one_score(bert_bundle: object, tmp_path: Path) -> None:
    bundle = headway.open(bert_bundle.path)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="text-classification or sentence-embedding"):
        bundle.rank("a", ["b"])
