"""Fixtures shared by the tests of several folders."""

from functools import cache
from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import make_recipe

from tests.support import models
from tests.support.phones import LINES, export_mobile
from tests.support.variants import canonical as of_directory


@pytest.fixture(scope="session")
def mobile(bert: Path, workshop: Path) -> Exported:
    """Return a bundle for phones of the four layers."""
    return export_mobile(bert, workshop / "mobile-bundle")


@pytest.fixture(scope="session")
def rounded(bert: Path, workshop: Path) -> Exported:
    """Return a bundle for phones in int8, with a vocabulary of 60 tokens."""
    (workshop / "lines.txt").write_text("\n".join(LINES))
    recipe = make_recipe(
        "test",
        source=str(bert),
        target="ort-mobile",
        data=workshop / "lines.txt",
        passes=[{"kind": "trim_vocabulary", "tokens": 60}, {"kind": "quantize"}],
        calibration={"samples": 24},
        max_drop=100,
    )
    return export(recipe, workshop / "rounded-bundle")


@pytest.fixture(scope="session")
def canonical(tmp_path_factory: pytest.TempPathFactory):
    """Return a fresh canonical model of a family."""

    @cache
    def source(family: str) -> Path:
        from tests.support.typed_graphs import minilm

        return minilm() if family == "minilm" else models.make_model(tmp_path_factory.mktemp(family), family)

    return lambda family: of_directory(source(family))
