"""Bundles for each kind of answer: small, exported once."""

from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models


@pytest.fixture(scope="session")
def embedder(sentence_bundle: Exported) -> Path:
    return sentence_bundle.path


@pytest.fixture(scope="session")
def classifier(bert_classifier: Path, workshop: Path) -> Path:
    return export(Recipe(source=str(bert_classifier)), workshop / "served-classifier").path


@pytest.fixture(scope="session")
def reranker(workshop: Path) -> Path:
    source = models.make_model(
        workshop / "reranker-source", "bert", "text-classification", num_labels=1, num_hidden_layers=1
    )
    return export(Recipe(source=str(source)), workshop / "served-reranker").path


@pytest.fixture(scope="session")
def tagger(workshop: Path) -> Path:
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    changes = {"num_hidden_layers": 1, "id2label": labels}
    source = models.make_model(workshop / "tagger-source", "bert", "token-classification", **changes)
    return export(Recipe(source=str(source)), workshop / "served-tagger").path
