"""Bundles for the web, and Node with its packages for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models
from tests.support.node import node_with_packages


@pytest.fixture(scope="module", autouse=True)
def node_packages() -> Iterator[None]:
    with node_with_packages():
        yield


@pytest.fixture(scope="session")
def sentence(sentence_bundle: Exported, workshop: Path) -> Exported:
    with node_with_packages():
        return export(Recipe(source=str(workshop / "sentence"), target="web"), workshop / "web-sentence")


@pytest.fixture(scope="session")
def classifier(workshop: Path) -> Exported:
    labels = {0: "praise", 1: "blame"}
    source = models.make_model(
        workshop / "web-classifier-source",
        task="text-classification",
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
    )
    with node_with_packages():
        return export(Recipe(source=str(source), target="web"), workshop / "web-classifier")
