"""Fixtures shared by the tests of targets for GPUs."""

from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support.triton_process import interpreted

__all__ = ["interpreted", "plan_bundle"]


@pytest.fixture(scope="session")
def plan_bundle(bert: Path, workshop: Path) -> Exported:
    recipe = Recipe(source=str(bert), target="tensorrt", dtype="fp16", engine={"plan": True, "hardware": "ampere+"})
    return export(recipe, workshop / "plan bundle; with 'odd' name")
