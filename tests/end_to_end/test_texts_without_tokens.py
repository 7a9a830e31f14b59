"""A text may have no token, where a tokenizer adds none: it is answered as its source answers it, or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import headway
from headway.errors import UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.runners.base import Limits

from tests.support import models
from tests.support.cpu_kernels import needs_library
from tests.support.stacks import write_text

TEXTS = ["", "the price of bread", "", "a"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier whose tokenizer adds no token of its own."""
    path = models.make_model(tmp_path_factory.mktemp("bare"), "bert", "text-classification", num_hidden_layers=2)
    rules = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps(rules | {"post_processor": None}))
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def test_the_runtimes_attention_gives_the_sources_answer(source: Path, tmp_path: Path) -> None:
    bundle = headway.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    assert bundle.manifest.parity["empty_rows"]
    tokens = transformers.AutoTokenizer.from_pretrained(source)(TEXTS, padding=True, return_tensors="pt")
    assert tokens["attention_mask"].sum(dim=1).tolist() == [0, 4, 0, 1]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source).eval()
    with torch.no_grad():
        wanted = model(**tokens).logits.numpy()
    np.testing.assert_allclose(bundle(TEXTS)["logits"], wanted, atol=1e-5)


@needs_library
def test_packed_tokens_have_none_of_such_a_row_and_it_is_refused(source: Path, tmp_path: Path) -> None:
    bundle = headway.open(export(Recipe(source=str(source), kernels="custom"), tmp_path / "out").path)
    assert not bundle.manifest.parity["empty_rows"]
    with pytest.raises(UsageError, match="text 0: there is no token"):
        bundle(TEXTS)
    with pytest.raises(UsageError, match="attention_mask, row 1: there is no token"):
        bundle.runner.run({"input_ids": np.ones((2, 3), int), "attention_mask": np.array([[1, 1, 0], [0, 0, 0]])})
    assert bundle(TEXTS[1::2])["logits"].shape == (2, 2)


def test_a_server_refuses_such_a_text_alone(source: Path, tmp_path: Path) -> None:
    """By its number, before it waits in a batch with others."""
    bundle = headway.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    encodings = bundle.encoder.encode(TEXTS)
    bundle.check_tokens(encodings)
    bundle.runner.limits = Limits(empty_rows=False)
    with pytest.raises(UsageError, match="input 0: there is no token"):
        bundle.check_tokens(encodings, "input")
    bundle.check_tokens(encodings[1::2])


@pytest.mark.slow
def test_a_compressed_bundle_answers_as_its_source_or_refuses(source: Path, tmp_path: Path) -> None:
    """The canonical graph gives such rows another answer than torch, so that agreeing with it is not enough."""
    text = write_text(tmp_path / "text.txt", 200)
    passes = [{"kind": "quantize", "weights": "int8"}]
    recipe = make_recipe("test", source=str(source), data=str(text), max_drop=100, passes=passes)
    bundle = headway.open(export(recipe, tmp_path / "out").path)
    assert not bundle.manifest.parity["empty_rows"]
    with pytest.raises(UsageError, match="text 0: there is no token"):
        bundle(TEXTS)
