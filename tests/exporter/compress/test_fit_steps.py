"""The step that removes until a budget is met."""

from pathlib import Path

import pytest

from headway.errors import GateError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe


def test_a_budget_out_of_reach_names_the_closest(classifier: Path, text: Path, tmp_path: Path) -> None:
    recipe = make_recipe(
        "test", source=str(classifier), data=text, passes=[{"kind": "fit", "speedup": 500}], max_drop=100
    )
    with pytest.raises(GateError, match="cannot be met"):
        export(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
