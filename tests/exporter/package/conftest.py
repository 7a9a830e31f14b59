"""A labeled model and its bundle for phones."""

from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import make_recipe

from tests.support import models


@pytest.fixture(scope="session")
def source(workshop: Path) -> Path:
    labels = {"id2label": {0: 'costs $10 "or" more', 1: "free"}, "label2id": {'costs $10 "or" more': 0, "free": 1}}
    return models.make_model(workshop / "labeled", "bert", "text-classification", **labels)


@pytest.fixture(scope="session")
def mobile(source: Path, workshop: Path) -> Exported:
    return export(make_recipe("test", source=str(source), target="ort-mobile"), workshop / "labeled-bundle")
