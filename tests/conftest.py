"""Fixtures shared by all tests. Exports are cached for a session: each takes a second or two."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import kept, models, traces
from tests.support.command_line import headway  # noqa: F401

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "support")]  # helpers can be imported by their bare names as well


def pytest_collection_finish() -> None:
    """Collect garbage less often: torch, transformers and the tests themselves are millions of objects, and they stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trace a model and read a table of characters once for all tests and processes; tests of the capture trace anew.

    `HEADWAY_TRACES` names a folder where traces stay.
    """
    folder = kept.shared_folder(tmp_path_factory)
    with traces.kept_in(Path(os.environ.get("HEADWAY_TRACES") or folder / "traces")), kept.tables_in(folder / "tables"):
        yield


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def bert(workshop: Path) -> Path:
    """Return a random BERT directory of four equal layers."""
    return models.make_model(workshop / "bert", num_hidden_layers=4)


@pytest.fixture(scope="session")
def bert_classifier(workshop: Path) -> Path:
    """Return a random BERT directory of two layers, with two classes."""
    return models.make_model(workshop / "classifier", "bert", "text-classification")


@pytest.fixture(scope="session")
def bert_bundle(bert: Path, workshop: Path) -> Exported:
    return export(Recipe(source=str(bert)), workshop / "bert-bundle")


@pytest.fixture(scope="session")
def sentence_bundle(workshop: Path) -> Exported:
    source = models.make_sentence_model(workshop / "sentence")
    return export(Recipe(source=str(source)), workshop / "sentence-bundle")
